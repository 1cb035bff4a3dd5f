"""Similarities on made-up embeddings: pairs, copies, and the photos of one subject."""

import numpy as np
import pytest
from likeness.patching.evaluation.similarity import between_photos, closest, copy_limit, cosines, unit

PHOTOS = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])


def test_cosines_do_not_depend_on_lengths():
    found = cosines(PHOTOS, np.array([[5.0, 0.0]]))
    np.testing.assert_allclose(found[:, 0], [1, 0, np.sqrt(0.5)], atol=1e-6)
    assert unit(PHOTOS).dtype == np.float32


def test_a_photo_is_not_compared_with_itself():
    half = np.sqrt(0.5)
    assert between_photos(PHOTOS).mean() == pytest.approx((0 + half + half) / 3, abs=1e-6)
    assert between_photos(PHOTOS, own=True).mean() == pytest.approx((3 + 4 * half) / 9, abs=1e-6)


def test_a_copy_is_closer_than_photos_are_to_each_other():
    limit = copy_limit(PHOTOS)
    assert limit == pytest.approx(np.sqrt(0.5), abs=1e-6)
    similar = closest(np.array([[1.0, 0.001], [1.0, 2.5]]), PHOTOS)
    assert (similar > limit).tolist() == [True, True] and similar[0] > 0.9999
    assert closest(np.array([[-1.0, 0.2]]), PHOTOS)[0] < limit


def test_a_single_photo_has_no_limit():
    assert np.isnan(copy_limit(PHOTOS[:1])) and not closest(PHOTOS[:1], PHOTOS[:1])[0] > copy_limit(PHOTOS[:1])
