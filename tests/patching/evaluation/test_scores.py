"""Scores of a batch, with networks of known embeddings."""

import math
import types

import numpy as np
import pytest
import torch
from likeness.patching.evaluation.scores import score


class Colors:
    """Network whose embedding is the mean color; its only text is red."""

    name = "colors"

    def __init__(self):
        self.seen = []

    def pictures(self, pictures):
        self.seen.append(pictures)
        means = np.stack([np.asarray(picture, np.float32).mean((0, 1)) for picture in pictures])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def texts(self, texts):
        assert texts == ["red"]
        return np.array([[1, 0, 0]], np.float32)


def pictures(*colors):
    return torch.tensor(colors, dtype=torch.float32)[:, None, None].expand(-1, 8, 6, 3)


RED, GREEN, YELLOW = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0)


def both():
    network = Colors()
    return types.SimpleNamespace(identity=network, prompt=network)


def test_identity_is_the_mean_over_the_references():
    found = score(both(), pictures(RED, GREEN, YELLOW), pictures(RED, YELLOW), " red ")
    half = math.sqrt(0.5)
    assert found.identity == pytest.approx([(1 + half) / 2, half / 2, (half + 1) / 2], abs=1e-6)
    assert found.prompt == pytest.approx([1, 0, half], abs=1e-6)
    assert found.text.splitlines()[0] == "1: identity 0.854, prompt 1.000"
    assert found.text.splitlines()[-1] == "Identity by colors, 2 references; prompt by colors"


def test_pictures_and_references_of_other_sizes_and_with_alpha():
    photo = torch.cat([pictures(RED), torch.zeros(1, 8, 6, 1)], -1).repeat(1, 2, 2, 1)
    found = score(both(), pictures(RED), photo)
    assert found.identity == pytest.approx([1.0]) and math.isnan(found.prompt[0]) and "prompt" not in found.text


def test_a_mask_leaves_the_subject_on_white():
    network = both()
    half = torch.zeros(1, 8, 6)
    half[:, :4] = 1
    score(network, pictures(RED, GREEN), pictures(RED), "", half, torch.ones(16, 12))
    cut, photo = np.asarray(network.identity.seen[1][1]), np.asarray(network.identity.seen[0][0])
    assert (cut[:4] == (0, 255, 0)).all() and (cut[4:] == 255).all() and (photo == (255, 0, 0)).all()


def test_empty_masks_have_no_score():
    masks = torch.stack([torch.ones(8, 6), torch.zeros(8, 6)])
    found = score(both(), pictures(RED, RED), pictures(GREEN, RED), "", masks, masks.flip(0))
    assert found.identity[0] == pytest.approx(1.0) and math.isnan(found.identity[1]) and found.empty == (2,)
    assert "2: no identity, its mask is empty" in found.text and "1 references" in found.text
    none = score(both(), pictures(RED), pictures(RED), "red", torch.zeros(1, 8, 6))
    assert math.isnan(none.identity[0]) and none.prompt == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": "red"}, "expected metrics with a network for the prompt, got none; choose one"),
        ({"mask": torch.ones(2, 8, 6)}, "expected one mask, or 3, one for each picture, got 2"),
        ({"reference_mask": torch.ones(3, 8, 6)}, "expected one reference_mask, or 2, one for each picture, got 3"),
        ({"reference_mask": torch.zeros(1, 8, 6)}, "expected a subject in reference_mask, got empty masks alone"),
    ],
)
def test_inputs_that_do_not_fit_are_one_sentence(change, sentence):
    network = types.SimpleNamespace(identity=Colors(), prompt=None)
    with pytest.raises(ValueError, match=f"^Likeness Score: {sentence}"):
        score(network, pictures(RED, GREEN, YELLOW), pictures(RED, GREEN), **change)
