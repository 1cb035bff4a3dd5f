"""A prompt between two others."""

from __future__ import annotations

import math

import torch

from ..host.checks import single

_POOLED = "pooled_output"


def faded(first: list, second: list, share: float, node: str) -> list:
    """The CONDITIONING on the line from `first`, share 0, to `second`, share 1, as ConditioningAverage mixes them.

    A retouch (arXiv 2407.09779, Algorithm 1) fades from the whole prompt to the neutral one.
    The shorter text is repeated to the length of the longer one, which does not change its attention. Raises
    ValueError for combined prompts.
    """
    single(first, node)
    single(second, node, "neutral prompt")
    (text, beside), (other, facts) = first[0], second[0]
    length = math.lcm(text.shape[1], other.shape[1])
    text, other = (t.repeat(1, length // t.shape[1], 1) for t in (text, other))
    if share == 1:
        return [[other, facts]]
    mixed = {**facts}
    if beside.get(_POOLED) is not None and facts.get(_POOLED) is not None:
        mixed[_POOLED] = _between(beside[_POOLED], facts[_POOLED], share)
    return [[_between(text, other, share), mixed]]


def _between(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    return second * share + first * (1.0 - share)
