"""Masks of scaled pictures, brought back to the picture."""

import pytest
import torch
from likeness.patching.features.fitting import scaled, uncropped


@pytest.mark.parametrize(("height", "width"), [(120, 160), (160, 120), (100, 400), (128, 128)])
def test_a_mask_of_what_was_kept_comes_back(height, width):
    own = torch.zeros(64, 64)
    own[16:40, 8:48] = 1
    mask = uncropped(own, height, width)
    assert mask.shape == (height, width)
    _, back = scaled(torch.rand(1, height, width, 3), mask, 64, 64)
    assert back is not None
    assert float((back - own).abs().mean()) < 0.03


def test_what_was_cropped_is_empty():
    mask = uncropped(torch.ones(64, 64), 100, 400)
    assert torch.equal(mask.amax(0), torch.nn.functional.pad(torch.ones(100), (150, 150)))
