"""The largest group of similar pictures, and why the others are dropped."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from likeness.patching.evaluation import same_pictures
from likeness.patching.evaluation.same_subject import MOST, on_white, same_subject
from likeness.patching.evaluation.similarity import unit
from PIL import Image


def test_pairs_that_are_too_unlike_are_dropped_with_the_reason():
    embeddings = np.array([[1, 0], [0.99, 0.1], [0, 1], [0.98, 0.15]], np.float32)
    found = same_subject(embeddings, 0.85)
    assert found.kept == (0, 1, 3)
    assert found.reasons == {2: "0.000 similar to picture 1, less than 0.85"}


def test_a_chain_of_similar_pictures_is_no_group():
    angles = np.radians([0, 25, 50])
    found = same_subject(np.stack([np.cos(angles), np.sin(angles)], 1), 0.85)
    assert len(found.kept) == 2 and found.similarity[0, 2] < 0.85


@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_no_larger_group_exists(seed, count):
    embeddings = unit(np.random.default_rng(seed).normal(size=(count, 3)))
    found, similar = same_subject(embeddings, 0.2), embeddings @ embeddings.T
    good = lambda group: all(similar[i, j] >= 0.2 for i, j in itertools.combinations(group, 2))  # noqa: E731
    assert good(found.kept)
    best = [g for n in range(count + 1) for g in itertools.combinations(range(count), n) if good(g)]
    assert len(found.kept) == max(map(len, best))


def test_the_filter_sees_the_whole_instance_on_white():
    picture = Image.new("RGBA", (10, 30), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 10, 10))
    seen = np.asarray(on_white(picture))
    assert seen.shape == (30, 30, 3) and tuple(seen[5, 15]) == (0, 0, 255) and tuple(seen[20, 15]) == (255, 255, 255)
    assert on_white(Image.new("RGB", (4, 4), (9, 9, 9))).getpixel((1, 1)) == (9, 9, 9)


def test_more_than_can_be_compared_is_one_sentence():
    with pytest.raises(ValueError, match=f"expected at most {MOST} pictures to compare, got {MOST + 1}; give fewer"):
        same_subject(np.ones((MOST + 1, 2)), 0.5)
    with pytest.raises(ValueError, match=f"Same Subject: expected at most {MOST} pictures, got {MOST + 1}; give fewer"):
        same_pictures.same(None, [torch.zeros(MOST + 1, 4, 4, 3)], 0.5)  # pyright: ignore[reportArgumentType]
