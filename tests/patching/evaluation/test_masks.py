"""Cut-outs: the color outside, the box, and masks without a subject."""

import numpy as np
import pytest
from likeness.patching.evaluation.masks import FILLS, CutOut, center, is_empty, read
from PIL import Image


@pytest.fixture
def picture():
    return Image.fromarray(np.full((40, 60, 3), 90, np.uint8))


@pytest.fixture
def mask():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    return mask


@pytest.mark.parametrize("fill", FILLS)
def test_the_subject_stays_and_the_rest_is_filled(picture, mask, fill):
    pixels = np.asarray(CutOut(fill).apply(picture, mask))
    assert (pixels[mask] == 90).all() and (pixels[~mask] == FILLS[fill]).all()


def test_a_cropped_subject_is_its_box(picture, mask):
    assert CutOut(crop=True).apply(picture, mask).size == (20, 10)


def test_an_empty_mask_gives_no_picture(picture, mask):
    few = np.zeros_like(mask)
    few[0, :2] = True
    assert is_empty(few) and CutOut().apply(picture, few) is None and center(few) is None
    assert not is_empty(mask)


def test_the_center_of_a_mask(mask):
    assert center(mask) == pytest.approx((40 / 60, 15 / 40))


def test_a_mask_is_read_at_the_size_of_its_picture():
    small = Image.fromarray(np.array([[0, 255], [0, 0]], np.uint8))
    assert read(small, (4, 2)).tolist() == [[False, False, True, True], [False] * 4]
