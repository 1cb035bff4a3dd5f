"""Tests of the tokens that a reference's mask holds."""

import torch
from likeness.patching.features.references import tokens_inside


def test_the_tokens_that_a_mask_fills():
    mask = torch.zeros(4, 4)
    mask[:2, :3] = 1
    assert tokens_inside(mask, (4, 4)).tolist() == [0, 1, 2, 4, 5, 6]
    assert tokens_inside(mask, (2, 2)).tolist() == [0, 1]


def test_a_small_subject_keeps_the_token_that_it_fills_most():
    mask = torch.zeros(8, 8)
    mask[5, 6] = 1
    assert tokens_inside(mask, (2, 2)).tolist() == [3]


def test_an_empty_mask_holds_every_token():
    assert tokens_inside(torch.zeros(4, 4), (2, 2)).tolist() == [0, 1, 2, 3]
