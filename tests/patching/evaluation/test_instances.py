"""Instances of masks: parts, holes, borders, sizes, and two masks of one instance."""

import numpy as np
import pytest
import torch
from likeness.patching.evaluation import cut_outs, instances


def square(left, top, right, bottom, size=40) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    mask[top:bottom, left:right] = 1
    return mask


def test_each_mask_gives_its_largest_part_and_each_part_on_request():
    mask = np.maximum(square(2, 2, 12, 12), square(20, 20, 38, 30))
    (largest,) = instances.find(mask[None])
    assert largest.box == (20, 20, 38, 30)
    assert [one.box for one in instances.find(mask[None], parts=True)] == [(2, 2, 12, 12), (20, 20, 38, 30)]


def test_small_holes_are_filled_and_large_ones_belong_to_the_shape():
    mask = square(5, 5, 35, 35)
    mask[10:12, 10:12] = 0
    mask[20:30, 20:30] = 0
    (one,) = instances.find(mask[None])
    assert one.alpha[11, 11] == 1 and one.alpha[25, 25] == 0


def test_soft_edges_stay_and_other_parts_do_not():
    mask = square(5, 5, 15, 15)
    mask[15, 5:15] = 0.4
    mask[30:36, 30:36] = 0.9
    (one,) = instances.find(mask[None])
    assert one.box == (5, 5, 15, 16) and one.alpha[15, 8] == np.float32(0.4) and one.alpha[32, 32] == 0
    cut = one.cut(np.full((40, 40, 3), 7, np.uint8))
    assert cut.shape == (11, 10, 4) and cut[-1, 3, 3] == 102 and (cut[..., :3] == 7).all()


@pytest.mark.parametrize(
    ("mask", "options", "reason"),
    [
        (square(0, 5, 10, 15), {}, "touches the border of the picture"),
        (square(0, 5, 10, 15), {"whole": False}, ""),
        (square(5, 5, 7, 7), {}, "covers 0.2% of the picture, less than 1.0%"),
        (square(1, 1, 39, 39), {}, "covers 90.2% of the picture, more than 80.0%"),
        (square(0, 0, 0, 0), {}, "covers 0.0% of the picture, less than 1.0%"),
    ],
)
def test_instances_that_cannot_be_used_have_a_reason(mask, options, reason):
    (one,) = instances.find(mask[None], **options)
    assert one.dropped == reason


def test_empty_masks_are_no_instances_however_small_they_may_be():
    found = instances.find(np.zeros((2, 40, 40), np.float32), least=0.0)
    assert [one.dropped for one in found] == ["its mask is empty"] * 2


def test_of_two_masks_of_one_instance_the_larger_stays():
    masks = np.stack([square(5, 5, 15, 15), square(5, 5, 16, 15), square(20, 20, 30, 30), square(20, 20, 30, 30)])
    same = "another mask shows the same instance"
    assert [one.dropped for one in instances.find(masks)] == [same, "", "", same]


def test_cut_outs_are_lists_of_their_own_sizes():
    image, masks = torch.rand(1, 40, 40, 3), torch.from_numpy(np.stack([square(5, 5, 15, 25), square(0, 30, 5, 39)]))
    options = {"parts": "each mask", "least": 0.0, "most": 1.0, "border": "drop"}
    found = cut_outs.cut_out(image, masks, fill="transparent", **options)
    assert [tuple(one.shape) for one in found.images] == [(1, 20, 10, 4)] and found.masks[0].min() == 1
    assert torch.allclose(found.images[0][..., :3], image[:, 5:25, 5:15], atol=1 / 255)
    assert found.text == "1: 10 x 20 at 5, 5\n2: touches the border of the picture" and found.dropped == 1
    both = cut_outs.cut_out(image.expand(2, -1, -1, -1), masks, fill="white", **{**options, "border": "keep"})
    assert [tuple(one.shape) for one in both.images] == [(1, 20, 10, 3), (1, 9, 5, 3)]


def test_masks_of_another_picture_are_refused():
    options = {"parts": "each mask", "least": 0.0, "most": 1.0, "border": "drop", "fill": "white"}
    with pytest.raises(ValueError, match="expected masks of the picture's size, 40 x 40, got 8 x 8; make them of"):
        cut_outs.cut_out(torch.rand(1, 40, 40, 3), torch.ones(1, 8, 8), **options)
    with pytest.raises(ValueError, match="a mask for each of 2, got 3 masks; connect masks of these pictures"):
        cut_outs.cut_out(torch.rand(2, 8, 8, 3), torch.ones(3, 8, 8), **options)
