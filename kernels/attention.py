"""Attention probabilities, as maps of where a query looks, and their weights."""

# Torch's own annotations are incomplete.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_BUDGET = 2**24
"""Limit on the fp32 scores in memory at one time (64 MiB)."""


def attention_probabilities(
    q: torch.Tensor, k: torch.Tensor, heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """A = softmax(Q K^T / sqrt(d)) (Attention Is All You Need, arXiv 1706.03762, eq. 1), in fp32: the plain reference.

    q: [rows, n, heads * d], k: [rows, m, heads * d]. mask: added to the logits, broadcasts to the result. Returns
    [rows, heads, n, m].
    """
    rows, _, width = q.shape
    q, k = (x.float().reshape(rows, -1, heads, width // heads).transpose(1, 2) for x in (q, k))
    logits = q @ k.transpose(2, 3) * (width // heads) ** -0.5
    return torch.softmax(logits if mask is None else logits + mask.float(), dim=-1)


def cross_attention_map(
    q: torch.Tensor, k: torch.Tensor, heads: int, tokens: Sequence[int], budget: int = _BUDGET
) -> torch.Tensor:
    """Columns `tokens` of A = softmax(Q K^T / sqrt(d)), averaged over heads (Pick-and-Draw, arXiv 2401.16762, eq. 3).

    Prompt-to-Prompt (arXiv 2208.01626) introduced these maps.
    q: [rows, n, heads * d], k: [rows, m, heads * d], of any dtype. Returns [rows, n, len(tokens)] in fp32. Queries are
    taken in chunks of at most `budget` scores, so the memory does not grow with n.
    """
    rows, n, _ = q.shape
    chunk = max(1, budget // (rows * heads * k.shape[1]))
    parts: list[torch.Tensor] = []
    for start in range(0, n, chunk):
        probabilities = attention_probabilities(q[:, start : start + chunk], k, heads)
        # A word has few tokens; an index tensor would have to travel to the device.
        parts.append(torch.stack([probabilities[..., token].mean(1) for token in tokens], -1))
    return torch.cat(parts, 1)


def fold_repeats(columns: torch.Tensor, prompt_length: int) -> torch.Tensor:
    """Sum of the probabilities over the repeats of a text: ComfyUI repeats texts to pad them to one length.

    columns: [..., r * prompt_length], r repeats one after the other. Returns [..., prompt_length]. Raises ValueError
    where the width is no multiple of prompt_length.
    """
    width = columns.shape[-1]
    if width % prompt_length:
        raise ValueError(
            f"fold_repeats: expected a multiple of {prompt_length} columns, got {width}; pass the unpadded text's "
            "length."
        )
    return columns if width == prompt_length else columns.unflatten(-1, (-1, prompt_length)).sum(-2)


def key_bias(q: torch.Tensor, weights: Sequence[float], counts: Sequence[int]) -> torch.Tensor:
    """log(w) added to the logits of a key multiplies its share of the softmax by w.

    q: [rows, n, width], for shape, dtype and device. weights, counts: factor and length of each run of keys, in order.
    Returns [1, n, sum(counts)], an additive mask.
    """
    parts = [q.new_full((count,), math.log(weight)) for weight, count in zip(weights, counts, strict=True)]
    return torch.cat(parts).expand(1, q.shape[1], -1)


def rotated(x: torch.Tensor, rotation: torch.Tensor, halves: bool = False) -> torch.Tensor:
    """R x of every head (RoPE, arXiv 2104.09864, eq. 14 and 15). Rotations add up, so finished keys can be moved.

    x: [..., heads * d]. rotation: [d / 2, 2, 2] in fp32, one matrix per pair of channels, or [..., heads or 1, d / 2,
    2, 2]. halves: a pair is a channel of the first half of d with one of the second; otherwise two neighbors.
    """
    count = rotation.shape[-3]
    pairs = x.unflatten(-1, (-1, 2, count) if halves else (-1, count, 2)).float()
    first, second = pairs.unbind(-2 if halves else -1)
    made = [rotation[..., row, 0] * first + rotation[..., row, 1] * second for row in (0, 1)]
    return torch.stack(made, -2 if halves else -1).flatten(-3).to(x.dtype)
