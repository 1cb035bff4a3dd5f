"""The smoothing kernel and the decay of Pick-and-Draw, and the formulas of null-text inversion."""

import math

import pytest
import torch
from likeness.kernels.null_text import guided, learning_rate, pivot_distance, reached
from likeness.kernels.pick_and_draw import decayed, layout_loss


def test_the_kernel_decides_what_the_layout_loss_forgives():
    one, shifted = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    one[0, 4, 3] = shifted[0, 4, 4] = 1.0
    sharp = layout_loss([one], [shifted], size=1)
    assert float(sharp) == pytest.approx(math.sqrt(2) / 8, rel=1e-4)
    default, wide = layout_loss([one], [shifted]), layout_loss([one], [shifted], size=3, width=3.0)
    assert float(wide) < float(default) < float(sharp)
    torch.testing.assert_close(default, layout_loss([one], [shifted], size=3, width=0.5))
    torch.testing.assert_close(layout_loss([one], [shifted], size=3, width=0.01), sharp)


def test_the_step_size_decays_as_the_root_of_a_line():
    assert decayed(20.0, 1.0, 0.7) == 20.0 and decayed(20.0, 0.5, 0.0) == 20.0
    assert decayed(20.0, 0.5, 1.0) == pytest.approx(20 * math.sqrt(0.5))
    assert decayed(20.0, 0.5, 0.5) == pytest.approx(20 * math.sqrt(0.75))


def test_null_text_inversion_by_numbers():
    without, given = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)
    assert torch.equal(guided(without, given, 7.5), torch.full((1, 1, 2, 2), 15.0))
    assert float(pivot_distance(given, without, math.sqrt(3.0))) == pytest.approx(1.0)
    assert [learning_rate(i, 50) for i in (0, 50)] == pytest.approx([0.01, 0.005])
    assert reached(0.9e-5, 0, 50) and not reached(1.1e-5, 0, 50) and reached(0.9e-3, 49, 50)
