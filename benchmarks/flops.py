"""Floating-point operations of a run, as PyTorch counts them: of matrix products, convolutions and attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .memory import peak_bytes


def counted(one: Callable[[], object]) -> float:
    """Floating-point operations of a run."""
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # not among those that PyTorch counts
    with FlopCounterMode(display=False, custom_mapping={on_cpu: _attention}) as counter:
        one()
    return float(counter.get_total_flops())


def counted_with_peak(one: Callable[[], object]) -> tuple[float, float]:
    """Floating-point operations of a run, and the peak bytes of its tensors above the start."""
    peaks: list[float] = []
    return counted(lambda: peaks.append(peak_bytes(one))), peaks[0]


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_args: Any, **_named: Any) -> int:
    rows, heads, tokens, width = query
    return 2 * rows * heads * tokens * key[2] * (width + value[3])
