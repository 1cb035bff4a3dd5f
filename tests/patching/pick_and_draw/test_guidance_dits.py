"""Guided runs of tiny diffusion transformers: the laws that hold for U-Nets, on flow-matching latents."""

import functools

import comfy.model_management
import comfy.samplers
import pytest
import torch
from likeness.patching.features.references import Reference
from likeness.patching.features.sources import Inverted
from likeness.patching.host.family import CROSS_INPUT, CROSS_OUTPUT
from likeness.patching.pick_and_draw import run as guidance_run
from likeness.patching.pick_and_draw.build_template import record_template
from likeness.patching.pick_and_draw.null_text import NULL_TEXT, null_text
from likeness.patching.pick_and_draw.template import Template
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.pick_and_draw import guidance_runs
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    PROMPT,
    SEED,
    Sampling,
    clip_of,
    encoded,
    guided,
    made,
    relative,
    sampled,
    square,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
SCHEDULE = (0.9, 0.6, 0.3)


def model_of(dit):
    return tiny_dits.tiny_dit(dit, SEED)


def noise(dit, *seeds, height=8, width=8):
    return torch.cat([tiny_dits.latent(dit, 1, height, width, seed)["samples"] for seed in seeds])


@functools.cache
def palette(dit, **settings):
    pixels = square(8, 16, 48)
    return made(model_of(dit), latent=tiny_dits.latent(dit, seed=20), mask=pixels, **settings).palette


@functools.cache
def template(dit, height=8, width=8, batch=1):
    sampling = Sampling(seed=9, steps=2, cfg=4.0, sampler="euler", scheduler="simple", denoise=1.0)
    empty = {"samples": torch.zeros_like(noise(dit, *range(batch), height=height, width=width))}
    return record_template(
        model_of(dit),
        clip_of(),
        text=PROMPT,
        word="cat",
        negative=encoded(""),
        latent=empty,
        sampling=sampling,
        blocks="all",
        window=guidance_runs.ALWAYS,
    )[0]


def run(model, dit, *seeds, height=8, width=8, schedule=SCHEDULE, **settings):
    start = noise(dit, *(seeds or (3,)), height=height, width=width)
    return sampled(model, noise=start, schedule=schedule, **settings)


def test_a_step_of_nothing_changes_no_bit(dit):
    model = model_of(dit)
    patched, log = guided(model, palette(dit), template(dit), step_size=0.0)
    assert torch.equal(run(patched, dit), run(model, dit)) and not log.entries
    patched, log = guided(model, palette(dit), template(dit), step_size=1e-7)
    assert relative(run(patched, dit), run(model, dit)) < 1e-4 and len(log.entries) == 2


def test_losses_fall_and_nothing_stays(dit, monkeypatch):
    model, losses, take = model_of(dit), [], guidance_run.gradient
    plain = run(model, dit)

    def gradient(*args, **kwargs):
        found = take(*args, **kwargs)
        losses.append(float(found.losses))
        return found

    monkeypatch.setattr(guidance_run, "gradient", gradient)
    patched, log = guided(model, palette(dit), template(dit), step_size=0.01, iterations=3)
    found = run(patched, dit, cfg=1.0)
    assert torch.isfinite(found).all() and not torch.equal(found, run(model, dit, cfg=1.0))
    for level in (losses[:3], losses[3:]):
        assert level == sorted(level, reverse=True) and level[2] < level[0]
    assert len(losses) == 6 and all({"appearance", "layout"} <= entry.keys() for _, entry in log.entries)
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())
    assert comfy.model_management.in_training is False
    assert torch.equal(run(model, dit), plain)


def test_sides_apart_and_pictures_of_a_batch(dit):
    given, wanted, model = palette(dit), template(dit), model_of(dit)
    patched, _ = guided(model, given, wanted)
    step = functools.partial(run, dit=dit, schedule=SCHEDULE[:2])
    alone = step(patched)
    assert relative(step(patched, apart=True), alone) < 1e-3 < 0.01 < relative(alone, step(model))
    together = run(patched, dit, 3, 4, 5, schedule=SCHEDULE[:2])
    assert relative(together[:1], alone) < 1e-3


def test_odd_sizes(dit):
    patched, log = guided(model_of(dit), palette(dit), template(dit, 7, 9))
    found = run(patched, dit, height=7, width=9)
    assert torch.isfinite(found).all() and found.shape[-2:] == (7, 9) and len(log.entries) == 2


def test_outputs_as_features_and_a_drawn_layout(dit):
    model, mask = model_of(dit), square(8, 16, 48)
    given = palette(dit, features=CROSS_OUTPUT)
    patched, _ = guided(model, given, Template(given.family, mask=mask))
    found = run(patched, dit)
    assert torch.isfinite(found).all() and not torch.equal(found, run(model, dit))
    with pytest.raises(ValueError, match="share one attention, got cross_attention_input"):
        palette(dit, features=CROSS_INPUT)


@pytest.mark.parametrize("dit", ["flux", "qwen", "sd3", "anima"], indirect=True)
def test_null_text_brings_the_inversion_nearer(dit):
    """At a level, the embedding found by gradients leads nearer to the inversion than the empty prompt's own."""
    model, levels = model_of(dit), (0.0, 0.5, 0.9)
    latents = tuple(noise(dit, seed) for seed in (20, 21, 22))
    reference = Reference({"samples": latents[0]}, encoded(CAPTION), kind=NULL_TEXT, seed=5)
    pivots = Inverted(levels, latents)
    found, without = (null_text(model, reference, encoded(""), pivots, "test", steps=steps) for steps in (3, 0))
    far, near = (float((made.latents[1] - latents[1]).norm()) for made in (without, found))
    assert near < far
