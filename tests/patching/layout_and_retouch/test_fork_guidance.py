"""Guidance that a forked step leaves out is named on the node."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from likeness.patching.host.notices import Notices
from likeness.patching.host.passes import sample
from likeness.patching.layout_and_retouch.settings import FORK, NODE, QKV_BOTH
from likeness.tests.patching.layout_and_retouch.retouch_runs import STEPS, layout, reference, retouched
from likeness.tests.patching.tiny_models import conditioning, tiny_model


def told(guider, model, **settings):
    """The sentences of a retouch that a guider samples."""
    notices = Notices(NODE)
    settings = {"early_swap": FORK, "references": [reference(model)], "lambda_2": 2, "lambda_3": 2, **settings}
    patched = retouched(model, layout=layout(model)[1], notices=notices, **settings)
    running = guider(patched)
    prompts = [conditioning(model, seed=seed) for seed in (10, 11, 31)]
    running.set_conds(*(prompts if guider is Guider_PerpNeg else prompts[:2]))
    running.set_cfg(*((4.0, 1.0) if guider is Guider_PerpNeg else (4.0,)))
    sample(running, {"samples": torch.zeros(1, 4, 8, 8)}, 3, STEPS, "euler", "normal", 1.0, "test")
    return [said for said in notices.sentences if "layout's answers" in said]


def test_guidance_of_another_kind_is_said_to_wait():
    model = tiny_model("sd1")
    assert told(Guider_PerpNeg, model) == [
        "Early_swap fork gives the layout's answers in 2 steps, so Guider_PerpNeg acts from lambda_2 on."
    ]
    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(lambda given: given["denoised"])
    (both,) = told(Guider_PerpNeg, clone)
    assert both.endswith("so Guider_PerpNeg and guidance that other nodes add to the model act from lambda_2 on.")


@pytest.mark.parametrize(
    ("guider", "settings"),
    [
        (comfy.samplers.CFGGuider, {}),
        (Guider_PerpNeg, {"early_swap": QKV_BOTH}),
        (Guider_PerpNeg, {"strength": 0.5}),
    ],
)
def test_guidance_that_acts_in_each_step_is_not(guider, settings):
    assert told(guider, tiny_model("sd1"), **settings) == []
