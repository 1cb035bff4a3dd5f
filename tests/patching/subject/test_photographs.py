"""Photographs and masks as users connect them: each is read right, or refused in one sentence."""

import re

import pytest
import torch
from likeness.patching.host.notices import Notices
from likeness.patching.subject.masks import given_masks
from likeness.tests.patching.subject.subjects import mask, photo, read

BORDER = torch.ones(1, 128, 128) - mask()


def masks_of(*args):
    """The masks of all photographs, [height, width] or None."""
    return [one for part in read(*args) for one in part.masks]


def test_photographs_of_different_sizes_and_batches_go_together():
    parts = read({"image0": photo(height=64, width=200), "image1": photo(count=3), "image2": None})
    assert [tuple(part.images.shape) for part in parts] == [(1, 64, 200, 3), (3, 128, 128, 3)]
    assert masks_of({"image0": photo(), "image1": photo(count=3)}) == [None] * 4
    given = photo()
    assert read({"image0": given})[0].images is given, "what is kept for a picture is found by its tensor"


def test_gray_and_transparent_pictures():
    (gray,) = read({"image0": photo(channels=1)})
    assert gray.images.shape[-1] == 3 and torch.equal(gray.images[..., 0], gray.images[..., 2])
    opaque = photo(channels=4)
    opaque[..., 3] = 1
    assert masks_of({"image0": opaque}) == [None]
    opaque[0, :, :64, 3] = 0
    assert torch.equal(masks_of({"image0": opaque})[0], opaque[0, ..., 3])
    assert torch.equal(masks_of({"image0": opaque}, {"mask0": mask()})[0], mask()[0])


def test_a_mask_of_another_size_is_scaled():
    (found,) = masks_of({"image0": photo(height=256, width=256)}, {"mask0": mask()})
    assert found.shape == (256, 256)
    assert torch.equal(found[::2, ::2], mask()[0])


def test_masks_serve_a_batch_or_each_of_its_pictures():
    batch = {"image0": photo(count=2)}
    first, second = masks_of(batch, {"mask0": mask()})
    assert torch.equal(first, second)
    first, second = masks_of(batch, {"mask0": torch.cat([mask(), torch.zeros(1, 128, 128)])})
    assert first is not None and second is None
    (part,) = read(batch, {"mask0": torch.cat([mask(), torch.zeros(1, 128, 128)])})
    assert torch.equal(given_masks(part), torch.cat([mask(), torch.ones(1, 128, 128)]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.zeros(1, 64, 64), "the mask of image0 is empty, as LoadImage makes it"),
        (BORDER, "Warning: The mask of image0 covers the picture's border"),
        (mask(), ""),
        (torch.ones(1, 128, 128), ""),
    ],
    ids=["empty", "background", "subject", "whole"],
)
def test_a_mask_of_load_image_is_explained(given, expected):
    told = Notices("Subject")
    read({"image0": photo()}, {"mask0": given}, told)
    assert len(told.sentences) == bool(expected)
    assert not expected or expected.lower() in told.sentences[0].lower()


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        ({}, {}, "expected 1 to 8 photographs of one subject, got 0; connect one to image0."),
        ({"image0": photo(count=7), "image1": photo(count=2)}, {}, "got 9; connect fewer."),
        ({"image0": photo()}, {"mask1": mask()}, "got mask1 alone; connect the photograph to image1"),
        ({"image0": photo()}, {"mask0": mask(64)[:, :32]}, "shape of image0, 128 x 128, got one of 64 x 32"),
        ({"image0": photo(count=2)}, {"mask0": torch.ones(3, 128, 128)}, "one mask, or 2, one for each picture, got 3"),
        ({"image0": photo(channels=2)}, {}, "expected gray, RGB or RGBA pictures, got 2 channels in image0"),
        ({"image0": torch.zeros(5, 4)}, {}, "expected gray, RGB or RGBA pictures"),
        ({"image0": photo(height=1, width=1)}, {}, "of at least 16 x 16 pixels, got 1 x 1 in image0"),
    ],
)
def test_what_cannot_work_is_refused(images, masks, expected):
    with pytest.raises(ValueError, match=re.escape(expected)) as failure:
        read(images, masks)
    assert re.match(r"Subject: expected [^\n]*, got [^\n]*; [^\n]*\.$", str(failure.value))
