"""Guiding every n-th step of a sampling that is divided into several runs."""

import comfy.sample
import pytest
import torch
from likeness.patching.host.notices import Notices
from likeness.patching.pick_and_draw.settings import NODE
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    PROMPT,
    encoded,
    guided,
    model_of,
    noise_of,
    recorded,
    relative,
    sampled,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
STEPS = 5


def part(model, latent, start, end, noise=None):
    """Samples as KSamplerAdvanced does; noise: None for add_noise disable."""
    return comfy.sample.sample(
        model,
        torch.zeros_like(latent) if noise is None else noise,
        steps=STEPS,
        cfg=1.0,
        sampler_name="euler",
        scheduler="normal",
        positive=encoded(PROMPT),
        negative=encoded(""),
        latent_image=latent,
        disable_noise=noise is None,
        start_step=start,
        last_step=end,
        force_full_denoise=end == STEPS,
        disable_pbar=True,
        seed=0,
    )


def in_parts(model, split):
    noise = noise_of(3)
    empty = torch.zeros_like(noise)
    half = part(model, empty, 0, split, noise)
    return part(model, empty, 0, STEPS, noise), part(model, half, split, STEPS)


def test_parts_guide_the_steps_of_the_single_run():
    patched, log = guided(model_of(), None, recorded(), every=2, layout_start=0.3)
    whole, split = in_parts(patched, 3)
    assert relative(split, whole) < 1e-5
    assert len(log.entries) > 0


def test_a_part_of_an_unknown_schedule_says_where_it_counts_from():
    notices = Notices(NODE)
    patched, _ = guided(model_of(), None, recorded(), notices=notices, every=2)
    sampled(patched, noise=torch.zeros(1, 4, 16, 16), schedule=(4.0, 2.2, 1.0))
    assert any("count of every begins with this run" in said for said in notices.sentences)
    sampled(guided(model_of(), None, recorded(), notices=(quiet := Notices(NODE)))[0], noise=torch.zeros(1, 4, 16, 16))
    assert not any("every" in said for said in quiet.sentences)
