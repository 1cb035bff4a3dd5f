"""The equations of StyleAligned (arXiv 2312.02133), section 3.2: attention that takes a picture's style from another.

Tensors are projected queries, keys and values of one self-attention layer, [rows, tokens, width], heads unsplit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .attention import key_bias

EPSILON = 1e-5
"""Added to variances, so that constant channels give finite results. The paper states no value."""


def adain(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """AdaIN(x, y) = sigma(y) (x - mu(x)) / sigma(x) + mu(y) (StyleAligned, arXiv 2312.02133, section 3.2).

    x: [rows, n, width]. y: [rows, m, width]. mu, sigma: mean and standard deviation of a channel over a row's tokens.
    Returns [rows, n, width] of x's dtype, computed in fp32.
    """
    values = x.float()
    variance, mean = torch.var_mean(values, 1, correction=0, keepdim=True)
    wanted_variance, wanted_mean = torch.var_mean(y.float(), 1, correction=0, keepdim=True)
    scale = ((wanted_variance + EPSILON) / (variance + EPSILON)).sqrt()
    return (scale * (values - mean) + wanted_mean).to(x.dtype)


def style_aligned_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    reference_q: torch.Tensor,
    attention: Callable[..., torch.Tensor],
    *,
    counts: Sequence[int],
    weights: Sequence[float],
    strength: float = 1.0,
) -> torch.Tensor:
    """Attention(AdaIN(Q_t, Q_r), [AdaIN(K_t, K_r), K_r], [V_t, V_r]) (StyleAligned, arXiv 2312.02133, section 3.2).

    q: [rows, n, width]. k, v: [rows, n + sum(counts), width], the target's own tokens first, then each reference's.
    reference_q: [rows, sum(counts), width].
    attention(q, k, v) or attention(q, k, v, mask=[1, n, keys]) -> [rows, n, width]: the layer's own attention.
    counts, weights: tokens of each reference and the factor of their attention, 1 is the paper's. The paper has one
        reference; the statistics of several are those of all their tokens.
    strength: linear mix with the attention over the target's own tokens alone, 1 is the paper's.
    Returns [rows, n, width].
    """
    own = q.shape[1]
    aligned_q = adain(q, reference_q)
    aligned_k = torch.cat([adain(k[:, :own], k[:, own:]), k[:, own:]], 1)
    if any(weight != 1 for weight in weights):
        shared = attention(aligned_q, aligned_k, v, mask=key_bias(q, [1.0, *weights], [own, *counts]))
    else:
        shared = attention(aligned_q, aligned_k, v)
    if strength == 1:
        return shared
    return torch.lerp(attention(q, k[:, :own], v[:, :own]), shared, strength)
