"""Masks of each step, made in latent pixels or in the picture's own."""

import torch
import torch.nn.functional as F
from likeness.kernels.heatmaps import min_max
from likeness.kernels.layout_and_retouch import MaskRules, adaptive_mask
from likeness.kernels.morphology import SCIPY
from likeness.patching.layout_and_retouch.mask import LATENT, PICTURE, MaskRun, SubjectMask
from likeness.tests.patching.layout_and_retouch.retouch_runs import NEUTRAL, layout, mask, reference, retouched, run
from likeness.tests.patching.tiny_models import tiny_model


def subject() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return (((y - 30) ** 2 + (x - 37) ** 2) < 17**2)[None]


def test_a_mask_of_the_pictures_size_is_the_papers(monkeypatch):
    """The attention map is resized by nearest neighbors, and everything after that has the picture's pixels."""
    found = SubjectMask(subject(), subject().float(), MaskRules(), tokens=(1,), prompt_length=7, resolution=PICTURE)
    running = MaskRun(found, (8, 8), torch.device("cpu"))
    heat = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("likeness.patching.layout_and_retouch.mask.mean_heatmap", lambda *_: heat)
    running._maps[2.0] = {}
    large = F.interpolate(min_max(heat)[:, None], (64, 64), mode="nearest")[:, 0]
    assert torch.equal(running._step(1.0), adaptive_mask(large, subject(), MaskRules(), SCIPY))


def test_both_resolutions_in_a_run():
    model, results = tiny_model("sd1"), []
    trajectory = layout(model)[1]
    for resolution in (LATENT, PICTURE):
        item = SubjectMask(subject(), subject().float(), tokens=(1,), prompt_length=7, resolution=resolution)
        results.append(run(retouched(model, [reference(model)], layout=trajectory, mask=item), prompt=NEUTRAL))
    assert torch.isfinite(results[1]).all() and not torch.equal(*results)
    small = mask(tokens=(1,), prompt_length=7, resolution=PICTURE)
    assert torch.isfinite(run(retouched(model, [reference(model)], layout=trajectory, mask=small))).all()
