"""Attention kernels against loops, hand-computed cases and each other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from likeness.kernels.attention import attention_probabilities, cross_attention_map, fold_repeats, key_bias


def looped(q, k, heads):
    """softmax(Q K^T / sqrt(d)) one number at a time: [rows, heads, n, m]."""
    rows, n, width = q.shape
    m, d = k.shape[1], width // heads
    result = torch.empty(rows, heads, n, m)
    for r in range(rows):
        for h in range(heads):
            for i in range(n):
                scores = [
                    sum(float(q[r, i, h * d + c]) * float(k[r, j, h * d + c]) for c in range(d)) / math.sqrt(d)
                    for j in range(m)
                ]
                exponentials = [math.exp(s - max(scores)) for s in scores]
                result[r, h, i] = torch.tensor([e / sum(exponentials) for e in exponentials])
    return result


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_probabilities_equal_a_loop():
    q, k = random(2, 5, 6), random(2, 4, 6, seed=1)
    torch.testing.assert_close(attention_probabilities(q, k, 2), looped(q, k, 2))


def test_hand_computed_case():
    q = torch.tensor([[[1.0, 0.0]]])
    k = torch.tensor([[[0.0, 3.0], [math.log(3.0), 1.0]]])  # scores 0 and ln 3 with one head per channel
    torch.testing.assert_close(
        cross_attention_map(q, k, 2, [0, 1]), torch.tensor([[[(1 / 4 + 1 / 2) / 2, (3 / 4 + 1 / 2) / 2]]])
    )


@settings(max_examples=40)
@given(
    rows=st.sampled_from([1, 2, 3, 5]),
    n=st.integers(1, 40),
    m=st.integers(1, 12),
    heads=st.sampled_from([1, 2, 4]),
    budget=st.integers(1, 4000),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_chunked_map_equals_the_reference(rows, n, m, heads, budget, seed, data):
    q, k = random(rows, n, 8, seed=seed), random(rows, m, 8, seed=seed + 100)
    tokens = data.draw(st.lists(st.integers(0, m - 1), min_size=1, max_size=4))
    expected = attention_probabilities(q, k, heads)[..., tokens].mean(1)
    torch.testing.assert_close(cross_attention_map(q, k, heads, tokens, budget), expected, rtol=1e-5, atol=1e-6)


def test_all_tokens_sum_to_one():
    maps = cross_attention_map(5 * random(3, 7, 8), random(3, 9, 8, seed=1), 4, range(9))
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_fp32(dtype):
    q, k = (
        (30 * random(1, 6, 16)).to(dtype),
        random(1, 5, 16, seed=1).to(dtype),
    )  # scores far beyond what fp16's exponential resolves
    result = cross_attention_map(q, k, 2, [1, 3])
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, cross_attention_map(q.float(), k.float(), 2, [1, 3]))


@pytest.mark.parametrize("repeats", [1, 2, 4])
def test_folding_undoes_the_hosts_padding(repeats):
    q, k = random(2, 6, 8), random(2, 3, 8, seed=1)
    alone = cross_attention_map(q, k, 2, range(3))
    padded = cross_attention_map(q, k.repeat(1, repeats, 1), 2, range(3 * repeats))
    torch.testing.assert_close(fold_repeats(padded, 3), alone)


def test_folding_adds_hand_computed_columns():
    assert fold_repeats(torch.tensor([[1.0, 2.0, 10.0, 20.0]]), 2).tolist() == [[11.0, 22.0]]


def test_folding_refuses_other_widths():
    with pytest.raises(ValueError, match="multiple of 3 columns, got 4"):
        fold_repeats(torch.zeros(1, 4), 3)


def test_a_bias_multiplies_the_share_of_its_keys():
    q, k = random(1, 5, 4), random(1, 6, 4, seed=1)
    bias = key_bias(q, (1.0, 3.0), (2, 4))
    assert bias.shape == (1, 5, 6)
    scores = attention_probabilities(q, k, 1)[:, 0]
    weighted = scores * torch.tensor([1.0, 1, 3, 3, 3, 3])
    torch.testing.assert_close((scores.log() + bias).softmax(-1), weighted / weighted.sum(-1, keepdim=True))
