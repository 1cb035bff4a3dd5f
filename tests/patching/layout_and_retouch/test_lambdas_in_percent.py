"""lambda_2 and lambda_3 as fractions of sampling: the steps they stand for, whole runs and runs in two parts."""

from dataclasses import replace

import comfy.sample
import comfy.samplers
import pytest
import torch
from likeness.nodes.multi_source_attn_swap import MultiSourceAttnSwap
from likeness.patching.host.notices import Notices
from likeness.patching.host.window import steps_before
from likeness.patching.layout_and_retouch.checks import check_settings
from likeness.patching.layout_and_retouch.settings import FORK, NODE, NONE, PERCENT, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, layout, mask, reference, retouched, run
from likeness.tests.patching.tiny_models import conditioning, tiny_model

PERCENTS = RetouchSettings(lambdas_by=PERCENT)


@pytest.mark.parametrize("scheduler", ["ddim_uniform", "normal", "sgm_uniform"])
@pytest.mark.parametrize(("percent", "steps", "expected"), [(0.2, 50, 10), (0.2, 20, 4), (0.1, 50, 5), (0.1, 20, 2)])
def test_the_papers_steps_at_other_numbers_of_steps(scheduler, percent, steps, expected):
    sampling = tiny_model("sd1").get_model_object("model_sampling")
    levels = comfy.samplers.calculate_sigmas(sampling, scheduler, steps).tolist()[:-1]
    assert steps_before(percent, levels, sampling) == expected
    assert steps_before(0.0, levels, sampling) == 0
    assert steps_before(1.0, levels, sampling) == len(levels)


def test_percent_gives_the_picture_of_its_steps_and_says_them():
    model, notices = tiny_model("sd1"), Notices(NODE)
    inputs = {"layout": layout(model, steps=4)[1], "mask": mask()}
    expected = run(retouched(model, [reference(model)], lambda_2=1, lambda_3=2, **inputs), steps=4)
    percents = {"lambda_2": 4, "lambda_3": 4, "lambda_2_percent": 0.2, "lambda_3_percent": 0.5}
    patched = retouched(model, [reference(model)], lambdas_by=PERCENT, notices=notices, **percents, **inputs)
    assert torch.equal(run(patched, steps=4), expected)
    assert notices.sentences == ("Lambda_2_percent 0.2 is 1 of 4 steps, lambda_3_percent 0.5 is 2.",)


@pytest.mark.parametrize("split", [1, 3])
def test_a_run_in_two_parts_needs_no_other_percent(split):
    """The reference begins at the same noise level, whether sampling is split before or after it."""
    model, notices = tiny_model("sd1"), Notices(NODE)
    settings = {"early_swap": NONE, "lambdas_by": PERCENT, "lambda_2_percent": 0.5, "notices": notices}
    patched = retouched(model, [reference(model)], **settings)
    half = part(patched, torch.zeros(1, 4, 8, 8), last_step=split, force_full_denoise=False)
    close(part(patched, half, start_step=split, disable_noise=True), part(patched, torch.zeros(1, 4, 8, 8)))
    assert not any("continues another" in sentence for sentence in notices.sentences)


def part(model, latents, disable_noise=False, **steps):
    """Samples a part of a run of 4 steps."""
    noise = torch.zeros_like(latents) if disable_noise else comfy.sample.prepare_noise(latents, 3)
    positive, negative = conditioning(model, seed=10), conditioning(model, seed=11)
    return comfy.sample.sample(
        model,
        noise,
        4,
        4.0,
        "euler",
        "normal",
        positive,
        negative,
        latents,
        disable_noise=disable_noise,
        disable_pbar=True,
        seed=3,
        **steps,
    )


@pytest.mark.parametrize(
    ("widgets", "words"),
    [
        (
            {"lambda_3_percent": 0.1},
            "lambda_3_percent not below lambda_2_percent, got 0.1 and 0.2; raise",
        ),
        ({"lambda_2_percent": 0.0}, "lambda_2_percent 0 and no mask; set early_swap to fork, raise lambda_2_percent"),
    ],
    ids=["order", "no use"],
)
def test_refusals_name_the_widgets_that_count(widgets, words):
    with pytest.raises(ValueError, match=words):
        check_settings(replace(PERCENTS, lambda_2=9, lambda_3=3, **widgets), follows=True, masked=False)


def test_widgets_of_the_other_unit_are_not_checked():
    widgets = {"early_swap": FORK, "lambda_2": 9, "lambda_3": 3, "blocks": "paper"}
    assert MultiSourceAttnSwap.validate_inputs(**widgets, lambdas_by=PERCENT) is True
    assert "expected lambda_3 not below lambda_2" in str(MultiSourceAttnSwap.validate_inputs(**widgets))
    assert "from 0.0 to 1.0" in str(MultiSourceAttnSwap.validate_inputs(**widgets, lambda_2_percent=2.0))
    unknown = {**widgets, "input_types": {"lambdas_by": "COMBO"}}
    assert MultiSourceAttnSwap.validate_inputs(**unknown) is True
