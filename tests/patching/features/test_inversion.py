"""Inversions of references: on noise levels of their own, the same for every schedule, and their error."""

import math

import comfy.samplers
import numpy as np
import pytest
import torch
from likeness.patching.features.references import INVERTED, Reference
from likeness.patching.features.sources import Inverted, inversion_levels, invert
from likeness.patching.host.identity import Identity
from likeness.patching.host.notices import Notices
from likeness.patching.tinyland import model as tinyland
from likeness.patching.tinyland import subject
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model
from PIL import Image

WHO = Identity("model")


def gaussian(model):
    """A model that knows pictures of unit variance: D(x) = x / (1 + sigma^2), whose path is x0 * sqrt(1 + sigma^2)."""
    clone = model.clone()
    clone.set_model_unet_function_wrapper(lambda _, a: a["input"] / (1 + a["timestep"].view(-1, 1, 1, 1) ** 2))
    return clone


def schedule(model, steps, name="normal"):
    sampling = model.get_model_object("model_sampling")
    return [float(s) for s in comfy.samplers.calculate_sigmas(sampling, name, steps) if s > 0]


def inverted(model, **options):
    return Reference(latent(), conditioning(model), INVERTED, 0, **options)


def path_error(source, model, sigmas):
    """The largest error of a source's latents on the exact path, relative to it."""
    clean = model.model.process_latent_in(latent()["samples"])
    exact = [clean * math.sqrt(1 + s**2) for s in sigmas]
    return max(float((source.at(s) - x).norm() / x.norm()) for s, x in zip(sigmas, exact, strict=True))


@pytest.mark.parametrize(("name", "steps", "kept"), [("normal", 8, 8), ("sgm_uniform", 4, 4), ("normal", 25, 15)])
def test_every_schedule_gets_the_exact_latents(name, steps, kept):
    model = gaussian(tiny_model("sd1"))
    sigmas = schedule(model, steps, name)[:kept]
    assert path_error(inverted(model).source(model, sigmas, "Node", WHO), model, sigmas) < 0.05


@pytest.mark.slow
def test_short_and_partial_schedules_do_not_lose_noise():
    """The latents of a trained model have noise of unit variance at the top, however few levels the run has."""
    model, clip, vae = tinyland.load()
    picture = Image.open(subject.files("nemo")[1]).convert("RGB").crop((0, 0, 128, 128))
    pixels = torch.from_numpy(np.asarray(picture).copy())[None].float() / 255
    given = {"samples": vae.encode(pixels).detach()}
    text = clip.encode_from_tokens_scheduled(clip.tokenize("a fish"))
    clean, item = model.model.process_latent_in(given["samples"]), Reference(given, text, INVERTED, 0)
    for sigmas in (schedule(model, 4, "sgm_uniform"), schedule(model, 25)[:15]):
        top = sigmas[0]
        lost, kept = (
            float(((source.at(top) - clean) / top).std())
            for source in (invert(model, text, given, sigmas, "Node"), item.source(model, sigmas, "Node", WHO))
        )
        assert lost < 0.6 and 0.85 < kept < 1.1
    assert item.inversions[WHO.name].error < 0.1


def test_one_inversion_serves_every_schedule():
    model = gaussian(tiny_model("sd1"))
    item = inverted(model)
    first = item.source(model, schedule(model, 8), "Node", WHO)
    for sigmas in (schedule(model, 20, "karras"), schedule(model, 25)[10:], schedule(model, 3, "exponential")):
        assert item.source(model, sigmas, "Node", WHO) is first
    assert first.steps == 50


def test_a_finer_run_makes_a_finer_inversion():
    model = gaussian(tiny_model("sd1"))
    item = inverted(model, inversion_steps=5)
    assert [item.source(model, schedule(model, n), "Node", WHO).steps for n in (3, 9, 3)] == [5, 9, 5]
    assert len(item.inversions) == 1


def test_a_level_above_all_prolongs_the_last_step():
    source = Inverted((0.0, 1.0, 2.0), (torch.zeros(1), torch.ones(1), torch.full((1,), 4.0)))
    assert float(source.at(3.0)) == 7.0


def test_an_inversion_of_an_old_file_serves_the_levels_that_it_visited():
    model = gaussian(tiny_model("sd1"))
    sigmas = schedule(model, 4)
    old = invert(model, conditioning(model), latent(), sigmas, "Node")
    item = inverted(model, inversions={WHO.name: old})
    assert item.source(model, sigmas, "Node", WHO) is old
    assert item.source(model, schedule(model, 5), "Node", WHO) is not old


def test_the_error_is_that_of_the_way_back():
    model = gaussian(tiny_model("sd1"))
    clean = model.model.process_latent_in(latent()["samples"])
    for steps in (12, 50):
        levels = inversion_levels(model, steps)
        source = invert(model, conditioning(model), latent(), levels, "Node")
        guider = comfy.samplers.CFGGuider(model)
        guider.inner_set_conds({"positive": conditioning(model)})
        start = source.at(levels[0]) / levels[0]
        sigmas = torch.tensor([*levels, 0.0])
        found = guider.sample(start, 0 * start, comfy.samplers.sampler_object("euler"), sigmas, seed=0)
        error = float((model.model.process_latent_in(found).cpu() - clean).norm() / clean.norm())
        assert error / 2 < source.error < 2 * error


@pytest.mark.parametrize(("error", "told"), [(0.1, 0), (0.45, 1)])
def test_a_large_error_is_told_once(error, told):
    model, notices = tiny_model("sd1"), Notices("Reference Picture")
    kept = Inverted((0.0, 20.0), (torch.zeros(1), torch.ones(1)), steps=50, error=error)
    item = inverted(model, inversions={WHO.name: kept}, notices=notices)
    for _ in range(2):
        item.source(model, [1.0], "Node", WHO)
    assert len(notices.sentences) == told
    assert all("an error of 45%" in s and "raise inversion_steps" in s for s in notices.sentences)
