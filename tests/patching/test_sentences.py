"""Messages whose halves could contradict each other, or whose advice could be wrong, in each of their cases."""

import re
from types import SimpleNamespace

import pytest
import torch
from likeness.patching.features.pictures import references
from likeness.patching.features.references import NOISED
from likeness.patching.host.checks import check_count, check_models, single
from likeness.patching.jedi.members import known_members
from likeness.patching.layout_and_retouch.mask import RECORDED, build_mask
from likeness.patching.layout_and_retouch.segment import prompts
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.patching.pick_and_draw.template import Template
from likeness.tests.patching.tiny_models import conditioning, tiny_model

PICTURE, MASK = torch.rand(1, 64, 64, 3), torch.ones(3, 64, 64)
NOISE = torch.zeros(1, 4, 8, 8)


class Vae:
    def encode(self, pixels):
        return torch.zeros(len(pixels), 4, pixels.shape[1] // 8, pixels.shape[2] // 8)


def on_another_device(model):
    """A model that is equal except for its device."""
    known = {"load_device": "cuda:1", "get_model_object": model.get_model_object}
    return SimpleNamespace(**known)


CASES = {
    "masks of one picture": (
        lambda: references(PICTURE, Vae(), [[torch.zeros(1, 7, 24), {}]], NOISED, 0, MASK, 1.0),
        "expected one mask, got 3; connect as many as there are pictures.",
    ),
    "masks of two pictures": (
        lambda: check_count(3, 2, "mask", "N"),
        "expected one mask, or 2, one for each picture, got 3; connect as many as there are pictures.",
    ),
    "masks of a retouch": (
        lambda: build_mask(MASK, None).check(1, 8, 8),
        "expected one mask, got 3; connect as many as there are pictures.",
    ),
    "heatmaps of one picture": (
        lambda: prompts(PICTURE, MASK, threshold=0.3, inside="", outside="", box=""),
        "expected one heatmap, got 3; connect as many as there are pictures.",
    ),
    "a heatmap of another size": (
        lambda: prompts(PICTURE, MASK[:, :32], threshold=0.3, inside="", outside="", box=""),
        "expected a heatmap of the picture's size, 64 x 64, got one of 64 x 32; make it of the same picture.",
    ),
    "a template of one latent": (
        lambda: Template("unet", mask=MASK).check(NOISE, "N"),
        "expected a template of one image, as the sampler's latent has, got one of 3; connect the sampler's latent to "
        "Layout Template too.",
    ),
    "a template of two latents": (
        lambda: Template("unet", mask=MASK).check(NOISE.expand(2, -1, -1, -1), "N"),
        "expected a template of one image or of 2, as the sampler's latent has, got one of 3; connect the sampler's "
        "latent to Layout Template too.",
    ),
    "an empty subject mask": (
        lambda: build_mask(MASK * 0, None, RECORDED),
        "expected a subject_mask with the subject in it, got an empty one; connect another subject_mask.",
    ),
    "a caption of nothing": (
        lambda: known_members(tiny_model("sd1"), (), [conditioning(tiny_model("sd1"))], [], "N"),
        "expected references for the caption to describe, got none; connect references, or disconnect caption.",
    ),
    "no prompt": (lambda: single([], "N"), "expected one prompt, got none; connect a single CLIPTextEncode."),
    "another device": (
        lambda: check_models(tiny_model("sd1"), on_another_device(tiny_model("sd1")), "N"),
        "expected models with one device, got cpu and cuda:1; load both models on the same device.",
    ),
    "a switch after a part of a schedule": (
        lambda: Switch(steps=4).sigma(torch.tensor([3.0, 2.0, 1.0]), None, "N"),
        "expected switch_step within the 2 steps of this run, got 4; lower switch_step, or set switch_by to percent, "
        "which also fits a part of the schedule.",
    ),
    "a switch after all steps": (
        lambda: Switch(steps=4, of=2).sigma(torch.tensor([3.0, 2.0, 1.0]), None, "N"),
        "expected switch_step within the run's 2 steps, got 4; lower switch_step or raise steps.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_agrees_with_itself(case):
    call, expected = CASES[case]
    with pytest.raises(ValueError) as caught:
        call()
    assert re.sub(r"^[\w -]+: ", "", str(caught.value)) == expected
