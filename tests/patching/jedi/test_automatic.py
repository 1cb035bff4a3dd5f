"""Choices that follow the inputs of a set: blocks by the kind of checkpoint, the caption of pictures without one."""

import pytest
import torch
from likeness.kernels.jedi import MASK_FIRST
from likeness.patching.host.families import discover
from likeness.patching.jedi.build import check_blocks, joint_guider
from likeness.patching.jedi.checkpoint import with_format
from likeness.patching.jedi.format import JointFormat
from likeness.tests.patching.jedi.joint_runs import NEGATIVE, WIDGETS, guider_of, prompts
from likeness.tests.patching.pick_and_draw.guidance_runs import clip_of, encoded
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model


def joint_model():
    return with_format(tiny_model("sd1", channels=9), JointFormat(MASK_FIRST))


@pytest.mark.parametrize("joint", [False, True])
def test_automatic_blocks_are_those_of_the_checkpoint(joint):
    model = joint_model() if joint else tiny_model("sd1")
    guider = guider_of(model, blocks=" Automatic")
    expected = [b for b in discover(model, "test") if joint or b.kind == "output"]
    assert list(guider.settings.blocks) == expected
    told = "all, because model is a joint" if joint else "decoder, because model is no joint"
    assert any(f"Blocks automatic is {told} checkpoint." == sentence for sentence in guider.notices.sentences)


def test_automatic_stands_alone():
    check_blocks("automatic", "Joint Image Sampler")
    with pytest.raises(ValueError, match=r"got 'automatic'; change blocks"):
        check_blocks("automatic, input4", "Joint Image Sampler")


@pytest.mark.parametrize(("captions", "told"), [((), False), ("a cat", True)])
def test_a_latents_caption_can_be_the_empty_prompt(captions, told):
    model, clip = tiny_model("sd1"), clip_of()
    given, negative = [encoded(captions)] if captions else [], conditioning(model, seed=NEGATIVE)
    inputs = {"prompts": prompts(model), "negative": negative, "references": [latent(1, 8, 8, 20)], "captions": given}
    guider = joint_guider(model, widgets=WIDGETS, node="Joint Image Sampler", clip=clip, **inputs)
    without = joint_guider(model, widgets=WIDGETS, node="Joint Image Sampler", **inputs)
    caption, default = (found._references[0].conditioning for found in (guider, without))
    assert torch.equal(caption[0][0], encoded(captions or "")[0][0])
    assert default is (given[0] if given else negative)
    assert any("no effect of clip" in s.casefold() for s in guider.notices.sentences) is told
