"""The noise on references at every level (JeDi, arXiv 2407.06187, section 3.3)."""

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.tests.patching.jedi.joint_runs import STEPS, reference, run
from likeness.tests.patching.tiny_models import tiny_model


class Levels:
    """Records the reference's row at every call of a set."""

    def __init__(self, model, rows):
        self.rows, self.seen = rows, []
        self.model = model.clone()
        self.model.add_wrapper(WrappersMP.APPLY_MODEL, self)

    def __call__(self, executor, x, t, *args, **kwargs):
        if len(x) == self.rows:
            self.seen.append((float(t[0]), x[-1].clone()))
        return executor(x, t, *args, **kwargs)


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_references_are_replaced_at_every_call(sampler):
    model = tiny_model("sd1")
    known = reference(model)
    clean = model.model.process_latent_in(known.latent["samples"])[0]
    for kind in ("fixed", "fresh"):
        levels = Levels(model, 3)
        run(levels.model, references=[known], reference_noise=kind, sampler=sampler)
        noises = {sigma: (x - clean) / sigma for sigma, x in levels.seen}
        assert all(0.8 < float(noise.std()) < 1.2 for noise in noises.values()) and len(noises) == STEPS
        first, second = list(noises.values())[:2]
        assert torch.allclose(first, second, atol=1e-4) is (kind == "fixed")
        # Repeated calls at one level see the same picture.
        assert all(torch.allclose((x - clean) / sigma, noises[sigma]) for sigma, x in levels.seen)


def test_references_that_are_never_replaced_follow_their_own_prediction():
    model = tiny_model("sd1")
    levels = Levels(model, 3)
    answers = []

    def answer(executor, x, t, *args, **kwargs):
        made = executor(x, t, *args, **kwargs)
        if len(x) == 3:
            answers.append(made[-1])
        return made

    levels.model.add_wrapper(WrappersMP.APPLY_MODEL, answer)
    run(levels.model, references=[reference(model)], reference_noise="never")
    for (sigma, x), denoised, (following, after) in zip(levels.seen, answers, levels.seen[1:], strict=False):
        torch.testing.assert_close(after, x + (x - denoised) / sigma * (following - sigma), rtol=1e-4, atol=1e-4)
