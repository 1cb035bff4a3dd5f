"""Inputs of a retouch without any effect say so on the node; neutral values say nothing."""

import comfy.sample
import pytest
import torch
from likeness.patching.features.references import References
from likeness.patching.host.notices import Notices
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import NONE, QKV_BOTH, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEGATIVE,
    POSITIVE,
    STEPS,
    layout,
    mask,
    reference,
    run,
)
from likeness.tests.patching.tiny_models import conditioning, tiny_model

ALL = {"lambda_2": STEPS, "lambda_3": STEPS}
CASES = {
    "all steps come before lambda_2": (ALL, "no effect of the reference, because all"),
    "the same with a layout": ({**ALL, "layout": True}, "no effect of the reference, because all"),
    "window before lambda_2": (
        {"lambda_2": 2, "lambda_3": 2, "end_percent": 0.2},
        "reference, because end_percent 0.2",
    ),
    "window before lambda_3": ({"lambda_3": 2, "layout": True, "mask": mask(), "end_percent": 0.7}, "of the mask"),
    "window after lambda_2": (
        {"layout": True, "early_swap": QKV_BOTH, "start_percent": 0.3},
        "no effect of early_swap qkv_both, because start_percent 0.3",
    ),
    "reversed window": ({"start_percent": 0.8, "end_percent": 0.2}, "start_percent 0.8 lies after end_percent 0.2"),
    "swap without a layout": ({"early_swap": QKV_BOTH}, "no layout is connected"),
    "negative of a trajectory": ({"layout": True, "layout_negative": True}, "no effect of layout_negative"),
    "vanilla prompt alone": ({"vanilla_conditioning": True}, "no effect of vanilla_conditioning"),
    "white mask": ({"layout": True, "mask": torch.ones(1, 8, 8)}, "it is 1 everywhere"),
}
NEUTRAL = {
    "defaults": {},
    "lambda_2 0": {"lambda_2": 0, "lambda_3": 0},
    "strength 0": {"strength": 0.0},
    "no blocks": {"blocks": ""},
    "strength 0 under a white mask": {"strength": 0.0, "layout": True, "mask": torch.ones(1, 8, 8)},
    "no blocks for a reversed window": {"blocks": "", "start_percent": 0.8, "end_percent": 0.2},
    "empty window": {"start_percent": 0.5, "end_percent": 0.5},
    "no swap": {"early_swap": NONE},
    "mask at the end": {"layout": True, "mask": mask(), "lambda_3": STEPS},
    "layout and mask": {"layout": True, "mask": mask()},
}


def told_by(settings, sample=run) -> tuple[str, ...]:
    model, notices = tiny_model("sd1"), Notices("test")
    given = {"lambda_2": 1, "lambda_3": 1, **settings}
    others = {name: given.pop(name, None) for name in ("layout", "mask", "layout_negative", "vanilla_conditioning")}
    trajectory = layout(model)[1] if others["layout"] else None
    prompts = {n: conditioning(model) for n in ("layout_negative", "vanilla_conditioning") if others[n]}
    made = retouch(
        model,
        References((reference(model),)),
        trajectory,
        others["mask"],
        RetouchSettings(**given),
        notices=notices,
        **prompts,
    )
    built = notices.sentences
    sample(made)
    return tuple(s for s in dict.fromkeys((*built, *notices.sentences)) if s.startswith("Warning"))


@pytest.mark.parametrize("case", CASES)
def test_no_effect_is_said(case):
    settings, words = CASES[case]
    told = told_by(settings)
    assert len(told) == 1 and words.casefold() in told[0].casefold(), told


@pytest.mark.parametrize("case", NEUTRAL)
def test_neutral_values_say_nothing(case):
    assert not told_by(NEUTRAL[case])


def test_a_sampler_with_steps_of_its_own_says_what_it_has_left_out():
    """With two steps asked for, dpm_fast takes one."""

    def fast(steps):
        return lambda model: run(model, sampler="dpm_fast", steps=steps)

    (told,) = told_by({}, fast(2))
    assert "the model was never called from step lambda_2 1" in told
    assert not told_by({"lambda_2": 0, "lambda_3": 0}, fast(2)) and not told_by({}, fast(4))


def in_two(model):
    samples, noise = torch.zeros(1, 4, 8, 8), comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), 3)
    for first, last in ((0, 1), (1, STEPS)):
        samples = comfy.sample.sample(
            model,
            noise if first == 0 else 0 * noise,
            STEPS,
            4.0,
            "euler",
            "normal",
            conditioning(model, seed=POSITIVE),
            conditioning(model, seed=NEGATIVE),
            samples,
            start_step=first,
            last_step=last,
            disable_noise=first > 0,
            force_full_denoise=last == STEPS,
            disable_pbar=True,
            seed=3,
        )


def test_a_run_that_continues_another_says_how_it_counts():
    """With a trajectory the steps are known, and nothing is to say."""
    told = told_by({}, in_two)
    assert len(told) == 1 and "counted from the first step of this run" in told[0]
    assert not told_by({"layout": True}, in_two)
