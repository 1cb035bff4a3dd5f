"""The losses of a guided run, in lines while it runs and as curves afterwards."""

import numpy as np
import pytest
import torch
from likeness.patching.host.notices import Notices
from likeness.patching.pick_and_draw.loss_log import LossLog
from likeness.patching.pick_and_draw.loss_plot import plot
from likeness.tests.patching.pick_and_draw.guidance_runs import guided, model_of, palette, recorded, sampled

LEVELS = (3.0, 2.0, 1.0)


class Lines(Notices):
    """Keeps every live line."""

    def __init__(self):
        super().__init__("Subject Guidance", "7")
        self.kept = []

    def show(self, line):
        self.kept.append(line)


def logged(notices=None, appearance=((1.0, 3.0), (0.5, 1.5), (0.25, 0.75))):
    log = LossLog(notices or Lines())
    log.start(LEVELS)
    for sigma, losses in zip(LEVELS, appearance, strict=True):
        log.note(sigma, torch.tensor(losses), None)
    log.finish()
    return log


def test_every_step_is_told_once_when_it_is_over():
    lines = Lines()
    logged(lines)
    assert lines.kept == [f"guided step {n} of 3: appearance {loss:.4f}" for n, loss in ((1, 2.0), (2, 1.0), (3, 0.5))]


@pytest.mark.usefixtures("as_the_host_runs")
def test_a_run_tells_its_losses():
    model, lines = model_of(), Lines()
    patched, log = guided(model, palette(model), recorded(), notices=lines)
    sampled(patched)
    expected = [
        ", ".join(f"{name} {float(loss.mean()):.4f}" for name, loss in losses.items()) for _, losses in log.entries
    ]
    assert (
        lines.kept == [f"guided step {n + 1} of {len(expected)}: {text}" for n, text in enumerate(expected)]
        and len(lines.kept) == 2
    )


def red(picture):
    """The columns that the appearance curve has points in."""
    pixels = (picture[0].numpy() * 255).round().astype(int)
    return np.unique(np.argwhere((pixels == (200, 60, 40)).all(-1))[:, 1])


def test_the_curve_goes_from_the_first_step_to_the_last():
    columns = red(plot(logged(), 2))
    curve = columns[columns > 56]
    assert curve.min() <= 58 and curve.max() >= 534
    with pytest.raises(ValueError, match=r"^Loss Curves: expected the losses of a run of 3 images, got 2"):
        plot(logged(), 3)


def test_a_loss_that_is_no_number_leaves_a_gap():
    nan = float("nan")
    picture = plot(logged(appearance=((1.0, 1.0), (0.5, nan), (0.5, 0.5))), 2)
    assert len(red(picture)) and torch.equal(picture, picture.clamp(0, 1))
    assert not len(red(plot(logged(appearance=((nan, nan),) * 3), 2)))
