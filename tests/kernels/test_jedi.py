"""Coupled attention, input channels and guidance of JeDi, compared with brute force and cases by hand."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from likeness.kernels.jedi import (
    MASK_FIRST,
    NOISY_FIRST,
    arranged,
    coupled_attention,
    given_channels,
    noisy_first,
    ordered_guidance,
    sequence_to_set,
    set_to_sequence,
)

SIZES = {"sets": st.integers(1, 3), "members": st.integers(1, 4), "tokens": st.integers(1, 6)}


def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)


def projections(sets, members, tokens):
    return torch.randn(3, sets * members, tokens, 5, dtype=torch.float64).unbind()


def brute_force(q, k, v, members, visible):
    """Attention query by query, over the list of the keys that the query may attend to."""
    out = torch.empty_like(q)
    for row in range(len(q)):
        first = row - row % members
        seen = [
            (first + j, token)
            for j in range(members)
            for token in (range(q.shape[1]) if first + j == row or visible[j] is None else visible[j].tolist())
        ]
        for n in range(q.shape[1]):
            logits = torch.stack([q[row, n] @ k[r, t] for r, t in seen]) / q.shape[2] ** 0.5
            out[row, n] = sum(p * v[r, t] for p, (r, t) in zip(logits.softmax(0), seen, strict=True))
    return out


@given(**SIZES)
def test_a_set_survives_the_reshape(sets, members, tokens):
    hidden = torch.randn(sets * members, tokens, 3)
    sequence = set_to_sequence(hidden, members)
    assert sequence.shape == (sets, members * tokens, 3)
    assert torch.equal(sequence_to_set(sequence, members), hidden)
    assert torch.equal(sequence[-1, -1], hidden[-1, -1]) and torch.equal(sequence[0, :tokens], hidden[0])


@given(**SIZES, masked=st.booleans())
def test_equals_brute_force(sets, members, tokens, masked):
    q, k, v = projections(sets, members, tokens)
    visible = [torch.arange(0, tokens, 2) if masked and i % 2 else None for i in range(members)]
    torch.testing.assert_close(
        coupled_attention(q, k, v, members, attention, visible=visible), brute_force(q, k, v, members, visible)
    )


@given(**SIZES)
def test_the_order_of_members_does_not_matter(sets, members, tokens):
    q, k, v = projections(sets, members, tokens)
    order = torch.cat([first * members + torch.randperm(members) for first in range(sets)])
    moved = coupled_attention(q[order], k[order], v[order], members, attention)
    torch.testing.assert_close(moved, coupled_attention(q, k, v, members, attention)[order])


@given(sets=SIZES["sets"], tokens=SIZES["tokens"])
def test_one_member_is_the_attention_itself(sets, tokens):
    q, k, v = projections(sets, 1, tokens)
    assert torch.equal(coupled_attention(q, k, v, 1, attention), attention(q, k, v))


def test_strength_mixes():
    q, k, v = projections(2, 3, 4)
    none, half, whole = (coupled_attention(q, k, v, 3, attention, strength=strength) for strength in (0.0, 0.5, 1.0))
    assert torch.equal(none, attention(q, k, v)) and not torch.allclose(none, whole)
    torch.testing.assert_close(half, (none + whole) / 2)


def test_a_member_without_visible_tokens_is_not_seen_and_sees_all():
    q, k, v = projections(1, 2, 4)
    visible = [None, torch.empty(0, dtype=torch.long)]
    out = coupled_attention(q, k, v, 2, attention, visible=visible)
    torch.testing.assert_close(out[0], attention(q[:1], k[:1], v[:1])[0])
    torch.testing.assert_close(out[1], coupled_attention(q, k, v, 2, attention)[1])


def test_given_channels_by_hand():
    clean = torch.arange(8.0).view(2, 4, 1, 1)
    channels = given_channels(clean, torch.tensor([1, 0]))
    assert channels.flatten(1).tolist() == [[1, 0, 0, 0, 0], [0, 4, 5, 6, 7]]


def test_orders_of_the_input_channels():
    """The order does not change the convolution, and the noisy latent meets the pretrained weights."""
    noisy, clean, missing = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.tensor([1.0, 0.0])
    rest = given_channels(clean, missing)
    weights = torch.randn(7, 9, 3, 3)
    expected = {
        MASK_FIRST: torch.cat([rest[:, :1], noisy, rest[:, 1:]], 1),
        NOISY_FIRST: torch.cat([noisy, rest], 1),
    }
    for order, channels in expected.items():
        moved = weights[:, list(noisy_first(order))]
        torch.testing.assert_close(
            F.conv2d(torch.cat([noisy, rest], 1), moved), F.conv2d(channels, weights), rtol=1e-4, atol=1e-4
        )
        network_input = torch.cat([noisy, rest], 1)
        assert torch.equal(arranged(network_input, order), channels)
        flipped = torch.cat([noisy, 1 - rest[:, :1], rest[:, 1:]], 1)
        assert torch.equal(arranged(network_input, order, one_is_missing=False), arranged(flipped, order))
    with pytest.raises(ValueError, match="expected one of mask, noisy, clean, noisy, mask, clean, got clean first"):
        noisy_first("clean first")


@given(st.floats(0, 12), st.floats(0, 12))
def test_guidance(first, second):
    null, partial, full = torch.randn(3, 2, 4, dtype=torch.float64).unbind()
    by_hand = (1 - first) * null + (first - second) * partial + second * full
    torch.testing.assert_close(ordered_guidance(null, partial, full, first, second), by_hand)
    torch.testing.assert_close(ordered_guidance(null, partial, full, first, first), null + first * (full - null))
