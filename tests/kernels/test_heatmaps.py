"""Heatmaps: sizes, ranges, tokens inside a mask and colors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from likeness.kernels.heatmaps import colors, inside, mean_heatmap, min_max, overlay


def test_mean_of_equal_sizes_is_the_mean():
    a, b = torch.rand(2, 3, 5), torch.rand(2, 3, 5)
    torch.testing.assert_close(mean_heatmap([a, b], (3, 5)), (a + b) / 2)


def test_small_maps_count_as_much_as_large_ones():
    result = mean_heatmap([torch.full((1, 2, 2), 1.0), torch.full((1, 8, 6), 3.0)], (8, 6))
    torch.testing.assert_close(result, torch.full((1, 8, 6), 2.0))


def test_a_warm_corner_stays_in_its_corner():
    small = torch.zeros(1, 2, 3)
    small[0, 1, 2] = 1
    large = mean_heatmap([small], (8, 12))[0]
    assert large[-1, -1] == 1 and (large[:2] == 0).all() and (large[:, :6] == 0).all()


@given(st.integers(0, 1000), st.sampled_from([1, 2, 3, 5]), st.floats(1e-6, 1e6))
def test_min_max_reaches_both_ends_of_each_map(seed, images, scale):
    maps = min_max(scale * torch.rand(images, 4, 7, generator=torch.Generator().manual_seed(seed)))
    assert torch.equal(maps.amin((1, 2)), torch.zeros(images)) and torch.equal(maps.amax((1, 2)), torch.ones(images))


def test_a_constant_map_is_no_heat():
    assert torch.equal(min_max(torch.full((1, 3, 3), 0.7)), torch.zeros(1, 3, 3))


def test_colors_grow_brighter_and_survive_both_ends():
    shades = colors(torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0]))
    brightness = shades @ torch.tensor([0.299, 0.587, 0.114])
    assert shades.shape == (7, 3) and torch.equal(shades[0], shades[1]) and torch.equal(shades[-1], shades[-2])
    assert (brightness[1:-1].diff() > 0).all()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_overlay_mixes_gray_and_heat(strength):
    image, heat = torch.rand(2, 4, 5, 3), torch.rand(2, 4, 5)
    result = overlay(image, heat, strength)
    gray = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    torch.testing.assert_close(result, (1 - strength) * gray[..., None] + strength * colors(heat))


def test_a_mask_holds_the_tokens_that_it_fills_at_least_half():
    """Tokens of 2 x 2 pixels, filled by 1, 1/2, 1/4 and 0."""
    mask = torch.tensor([[[1.0, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]])
    assert inside(mask, (2, 2)).tolist() == [[True, True, False, False]]
    assert torch.equal(inside(mask.bool(), (2, 2)), inside(mask, (2, 2)))


def test_a_subject_smaller_than_a_token_keeps_the_token_that_it_fills_most():
    masks = torch.zeros(3, 4, 4)
    masks[0, 3, 3] = masks[1, 0, 0] = masks[1, 1, 3] = 1
    corner, two, none = inside(masks, (2, 2)).tolist()
    assert corner == [False, False, False, True] and two == [True, True, False, False] and not any(none)
