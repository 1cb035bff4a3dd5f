"""Guidance with samplers of all kinds, which call the model between the schedule's levels."""

import itertools

import pytest
import torch
from likeness.patching.pick_and_draw import run as guidance_run
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    guided,
    model_of,
    noise_of,
    palette,
    relative,
    sampled,
)
from likeness.tests.patching.tiny_models import ONE_LEVEL

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


SAMPLERS = (
    "heun",
    "dpm_2",
    "dpmpp_2m",
    "dpmpp_2s_ancestral",
    "euler_ancestral",
    "dpmpp_sde",
    "uni_pc",
    "lcm",
    "euler_cfg_pp",
    "dpm_fast",
)
BETWEEN = ("dpm_2", "dpmpp_2s_ancestral", "dpm_fast", "dpm_adaptive")
"""Samplers that call the model between two levels."""


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_of_all_kinds(sampler):
    model, noise = model_of(ONE_LEVEL), noise_of(3, side=8)
    patched, log = guided(model, palette(model, blocks="all"), step_size=0.02)
    found, plain = (sampled(m, noise=noise, schedule=(3.0, 2.1, 1.5, 1.0), sampler=sampler) for m in (patched, model))
    print(sampler, len(log.entries), relative(found, plain))
    assert torch.isfinite(found).all() and 0.01 < relative(found, plain) < 0.3
    assert len(log.entries) >= 3


def test_calls_between_two_levels_go_with_the_higher_one():
    model, noise = model_of(ONE_LEVEL), noise_of(3, side=8)
    patched, log = guided(model, palette(model, blocks="all"), None, every=2)
    sampled(patched, noise=noise, schedule=(6.0, 3.0, 1.75, 1.0), sampler="dpm_2")
    found = [sigma for sigma, _ in log.entries]
    assert found == pytest.approx([6.0, 18**0.5, 1.75, 1.75**0.5], rel=1e-4)


@pytest.mark.parametrize("sampler", BETWEEN)
def test_calls_between_levels_are_not_shifted_without_bounds(sampler):
    """The rest of a step may be almost nothing from such a call's own level."""
    model, shifts = model_of(ONE_LEVEL), []
    shift_of = guidance_run.denoised_shift
    patched, _ = guided(model, palette(model, blocks="all"), step_size=0.02)

    def denoised_shift(step, sigma, following):
        shifts.append(following / sigma)
        return shift_of(step, sigma, following)

    schedule = [float(s) for s in torch.linspace(3.0, 2.0, 5)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guidance_run, "denoised_shift", denoised_shift)
        found = sampled(patched, noise=noise_of(3, side=8), schedule=schedule, sampler=sampler)
    ratios = {round(b / a, 4) for a, b in itertools.pairwise(schedule)} | {0.0}
    assert shifts and {round(ratio, 4) for ratio in shifts} <= ratios
    assert (
        torch.isfinite(found).all()
        and relative(found, sampled(model, noise=noise_of(3, side=8), schedule=schedule, sampler=sampler)) < 1
    )
