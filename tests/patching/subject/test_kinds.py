"""Likeness Sampler on the kinds of checkpoint that people have, and with parts that do not belong to the checkpoint."""

import pytest
import torch
from likeness.tests.patching.kinds import KINDS
from likeness.tests.patching.subject.likeness_runs import PHOTO, SIDE, sampled
from likeness.tests.patching.subject.subjects import Averages, mask, subject_of

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
FEW = {"steps": 4, "cfg": 1.0, "sampler": "lcm", "scheduler": "sgm_uniform"}


def shown(**masks: torch.Tensor):
    return subject_of(PHOTO, masks=masks, inversion_steps=2)


@pytest.mark.parametrize(("kind", "options"), [("lcm", FEW), ("inpainting", {}), ("fp8", {})])
def test_photographs_act_on_other_kinds_of_checkpoint(kind, options):
    model, subject = KINDS[kind](), shown(mask0=mask(8 * SIDE))
    found, report = sampled(model, subject=subject, layout="own layout", **options)
    plain, _ = sampled(model, subject=subject, layout="own layout", likeness=0.0, **options)
    assert torch.isfinite(found).all() and not torch.equal(found, plain)
    assert "Method: palette guidance (Pick-and-Draw)" in report


@pytest.mark.parametrize("masks", [{}, {"mask0": mask(8 * SIDE)}], ids=["attention", "mask"])
@pytest.mark.parametrize("method", ["palette guidance", "joint"])
def test_a_vae_of_another_family_is_one_sentence(method, masks):
    vae = Averages()
    vae.latent_channels = 16
    with pytest.raises(ValueError, match=r"^Likeness Sampler: expected a VAE of .*4.*, got one of 16"):
        sampled(vae=vae, method=method, subject=shown(**masks))
    assert not vae.sizes, "refused before anything is encoded"
