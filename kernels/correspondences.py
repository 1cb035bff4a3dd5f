"""Correspondences between pictures: the keys that one query looks at (JeDi, arXiv 2407.06187, figure 5)."""

# Torch's own annotations are incomplete.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import torch

from .attention import attention_probabilities


def token_at(x: float, y: float, size: tuple[int, int]) -> int:
    """The token that holds a point of the picture, in raster order, at a layer of (height, width).

    x, y: fractions of the picture's width and height. A point on the far border belongs to the last token.
    """
    height, width = size
    return min(int(y * height), height - 1) * width + min(int(x * width), width - 1)


def looked_at(
    q: torch.Tensor,
    k: torch.Tensor,
    numbers: torch.Tensor,
    heads: int,
    *,
    total: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Rows of A = softmax(Q K^T / sqrt(d)), averaged over heads (JeDi, arXiv 2407.06187, figure 5), by numbers of keys.

    An attention is linear in its values. A method that gets these rows in place of outputs, and `numbers` in place of
    values, therefore makes the weights of its own outputs.
    q: [rows, n, heads * d], k: [rows, m, heads * d]. numbers: [rows, m, 1], which of `total` keys each one is. mask: to
    be added to the logits, broadcasts to [rows, heads, n, m]. Returns [rows, n, total] in fp32, 0 for keys that are not
    among the m.
    """
    weights = attention_probabilities(q, k, heads, mask).mean(1)
    found = weights.new_zeros(*weights.shape[:2], total)
    return found.scatter_(2, numbers.transpose(1, 2).expand_as(weights), weights)
