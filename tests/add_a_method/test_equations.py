"""The kernel of the added method against sums written out by hand."""

import pytest
import torch
from likeness.kernels.attention import attention_probabilities
from likeness.kernels.style_aligned import adain, style_aligned_attention

HEADS = 2


def plain_attention(q, k, v, mask=None):
    """[rows, n, width] -> [rows, n, width], by the definition of attention."""
    values = v.unflatten(2, (HEADS, -1)).transpose(1, 2)
    probabilities = attention_probabilities(q, k, HEADS)
    if mask is not None:
        probabilities = probabilities * mask.exp()[:, None]
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    return (probabilities @ values).transpose(1, 2).flatten(2)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_adain_by_hand():
    x = torch.tensor([[[1.0], [3.0]]])  # mean 2, standard deviation 1
    y = torch.tensor([[[10.0], [10.0], [40.0]]])  # mean 20, standard deviation sqrt(200)
    expected = torch.tensor([[[20 - 200**0.5], [20 + 200**0.5]]])
    torch.testing.assert_close(adain(x, y), expected, rtol=1e-4, atol=1e-4)


def test_adain_gives_the_other_statistics_per_row_and_channel():
    x, y = random(2, 64, 6), 3 * random(2, 48, 6, seed=1) + torch.arange(6.0)
    given = adain(x, y)
    torch.testing.assert_close(given.mean(1), y.mean(1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(given.std(1, correction=0), y.std(1, correction=0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(adain(x, x), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adain_in_half_precision(dtype):
    x, y = (100 * random(1, 64, 4)).to(dtype), (300 * random(1, 64, 4, seed=1)).to(dtype)
    given = adain(x, y)
    assert given.dtype == dtype
    torch.testing.assert_close(given.float(), adain(x.float(), y.float()), rtol=1e-2, atol=1.0)


def test_constant_channels_and_single_tokens_stay_finite():
    y = random(1, 5, 3)
    for x in (torch.ones(1, 4, 3), random(1, 1, 3)):
        torch.testing.assert_close(adain(x, y), y.mean(1, keepdim=True).expand_as(x))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 3.0)])
def test_attention_by_hand(weights):
    q, own_k, own_v = (random(2, 5, 8, seed=s) for s in range(3))
    reference_q, reference_k, reference_v = (random(2, 7, 8, seed=s) for s in range(3, 6))
    counts = (4, 3)
    given = style_aligned_attention(
        q,
        torch.cat([own_k, reference_k], 1),
        torch.cat([own_v, reference_v], 1),
        reference_q,
        plain_attention,
        counts=counts,
        weights=weights,
    )
    factors = torch.tensor([1.0] * 5 + [weights[0]] * 4 + [weights[1]] * 3)
    query, key = adain(q, reference_q), adain(own_k, reference_k)
    for row in range(2):
        for head in range(HEADS):
            part = slice(4 * head, 4 * head + 4)
            keys = torch.cat([key[row], reference_k[row]])[:, part]
            values = torch.cat([own_v[row], reference_v[row]])[:, part]
            scores = (query[row][:, part] @ keys.T / 4**0.5).exp() * factors
            expected = scores / scores.sum(1, keepdim=True) @ values
            torch.testing.assert_close(given[row, :, part], expected)


def test_strength_mixes_with_the_own_attention():
    q, k, v, reference_q = random(1, 5, 8), random(1, 9, 8, seed=1), random(1, 9, 8, seed=2), random(1, 4, 8, seed=3)

    def given(strength):
        return style_aligned_attention(
            q, k, v, reference_q, plain_attention, counts=(4,), weights=(1.0,), strength=strength
        )

    own = plain_attention(q, k[:, :5], v[:, :5])
    torch.testing.assert_close(given(0.25), 0.75 * own + 0.25 * given(1.0))
    assert torch.equal(given(0.0), own)
