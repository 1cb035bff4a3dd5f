"""The adaptive mask on diffusion transformers, where it follows the prompt's part of joint attention."""

import functools

import pytest
import torch
from likeness.patching.features.references import NOISED, Reference
from likeness.patching.host import passes
from likeness.patching.layout_and_retouch.mask import PICTURE, SubjectMask
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, mask, retouched
from likeness.tests.patching.tiny_dits import conditioning, latent, run_ksampler, tiny_dit

STEPS = 3
FOLLOWS = {"tokens": (2, 3), "prompt_length": 7}


@functools.cache
def layout(dit: str, rows: int = 1):
    """The trajectory of a step-blended run."""
    guider = StepBlendedGuider(tiny_dit(dit), tiny_dit(dit, seed=1), Switch(steps=1))
    guider.set_blended_conds(conditioning(seed=13), conditioning(seed=10), conditioning(seed=11))
    guider.set_cfg(4.0)
    passes.sample(guider, empty(dit, rows), 3, STEPS, "euler", "simple", 1.0, "test")
    return guider.trajectory


def empty(dit: str, rows: int = 1) -> dict:
    return {"samples": torch.zeros_like(latent(dit, rows)["samples"])}


def run(dit: str, found: SubjectMask | None, rows: int = 1, apart: bool = False, **options) -> torch.Tensor:
    item = Reference(latent(dit, seed=20), conditioning(seed=12), NOISED, 20)
    model = retouched(tiny_dit(dit, seed=1), [item], mask=found, layout=layout(dit, rows), **options)
    return run_ksampler(model, dit, latent_image=empty(dit, rows), steps=STEPS, seed=3, apart=apart)


def test_the_mask_follows_the_words(dit):
    plain, fixed, follows = (run(dit, found) for found in (None, mask(), mask(**FOLLOWS)))
    assert follows.shape == plain.shape and bool(follows.isfinite().all())
    assert not torch.equal(plain, fixed)
    assert not torch.equal(fixed, follows)


@pytest.mark.parametrize("dit", ["flux2", "zimage", "qwen"], indirect=True)
def test_batches_and_sides_in_calls_of_their_own(dit):
    close(run(dit, mask(**FOLLOWS), rows=2, apart=True), run(dit, mask(**FOLLOWS), rows=2))


def half(left: bool, **options) -> SubjectMask:
    """The mask of a subject in one half of the picture."""
    subject = torch.zeros(1, 8, 8, dtype=torch.bool)
    subject[:, :, :4] = left
    subject[:, :, 4:] = not left
    return SubjectMask(subject, subject.float(), **options)


@pytest.mark.parametrize("dit", ["flux", "zimage", "qwen", "sd3", "anima"], indirect=True)
@pytest.mark.parametrize("follows", [False, True], ids=["fixed", "follows"])
def test_each_picture_has_its_own_mask(dit, follows):
    """Pictures with a mask each are those of runs in which all pictures have that mask."""
    options = FOLLOWS if follows else {}
    masks = [half(True, **options), half(False, **options)]
    both = SubjectMask(torch.cat([m.subject for m in masks]), torch.cat([m.fixed for m in masks]), **options)
    found, left, right = (run(dit, given, rows=2) for given in (both, *masks))
    close(found[0], left[0])
    close(found[1], right[1])
    for one, other in zip(left, right, strict=True):
        assert (one - other).norm() > 1e-3 * one.norm()


def test_masks_have_the_size_of_flux2s_pictures():
    """Its latent pixels are 16 pixels wide."""
    large = mask(128, 128, resolution=PICTURE, **FOLLOWS)
    assert bool(run("flux2", large).isfinite().all())
    with pytest.raises(ValueError, match="expected a mask of the picture's size, 128 x 128, got 64 x 64"):
        run("flux2", mask(64, 64))
