"""A mask that follows attention, in the later part of a divided sampling and in parts of the picture."""

import comfy.sample
import pytest
import torch
from likeness.patching.host.notices import Notices
from likeness.patching.layout_and_retouch.settings import NODE, NONE
from likeness.tests.patching.layout_and_retouch.retouch_runs import STEPS, layout, mask, reference, retouched
from likeness.tests.patching.tiny_models import conditioning, run_ksampler, tiny_model

SAID = "the first step of this run blends under the mask"


def told_by_part(start: int, noise: bool = False, **masked) -> bool:
    """True where a run of the last steps says that its first mask is not of the step before."""
    model, notices = tiny_model("sd1"), Notices(NODE)
    settings = {"lambda_2": 1, "lambda_3": 1, "mask": mask(**masked), "notices": notices}
    patched = retouched(model, [reference(model)], layout=layout(model)[1], **settings)
    comfy.sample.sample(
        patched,
        torch.ones(1, 4, 8, 8) if noise else torch.zeros(1, 4, 8, 8),
        STEPS,
        4.0,
        "euler",
        "normal",
        conditioning(model, seed=10),
        conditioning(model, seed=11),
        torch.ones(1, 4, 8, 8),
        start_step=start,
        disable_noise=not noise,
        disable_pbar=True,
        seed=3,
    )
    return any(SAID in said.lower() for said in notices.sentences)


def test_the_maps_of_an_area_are_refused():
    model, of_host = tiny_model("sd1"), {"height": 16, "width": 16}
    text, rest = conditioning(model, seed=9)[0]
    positive = [*conditioning(model, seed=10), [text, {**rest, "area": (8, 16, 4, 0), "strength": 1.0}]]
    settings = {"early_swap": NONE, "mask": mask(**of_host, tokens=(1, 2), prompt_length=7)}
    patched = retouched(model, [reference(model)], layout=layout(model, **of_host)[1], **settings)
    said = "Reference Retouch: expected prompts for the whole picture, got one for an area of 128 x 64 pixels; remove"
    with pytest.raises(ValueError, match=said):
        run_ksampler(patched, positive, conditioning(model, seed=11), {"samples": torch.zeros(1, 4, 16, 16)})


def test_the_first_mask_of_a_later_part_is_told():
    follows = {"tokens": (1, 2), "prompt_length": 7}
    assert told_by_part(2, **follows)
    assert not told_by_part(2)
    assert not told_by_part(2, noise=True, **follows)
