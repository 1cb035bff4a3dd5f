"""RAM for features of a GPU: pinned, so that the GPU need not wait for copies in either direction."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

_SLAB = 16 * 2**20
"""Bytes that are pinned at once; PyTorch rounds every allocation up to a power of two."""
_ALIGNED = 256


@dataclass(eq=False)
class HostMemory:
    """Copies of tensors in RAM. Not safe for several threads at once."""

    _slab: torch.Tensor | None = None
    _used: int = 0
    _pending: dict[torch.device, torch.cuda.Event] = field(default_factory=dict)

    def copy_of(self, features: torch.Tensor) -> torch.Tensor:
        """A copy on the CPU. From a GPU it is complete after `wait`."""
        if not _on_gpu(features):
            return torch.empty(features.shape, dtype=features.dtype).copy_(features)
        kept = self._take(features.shape, features.dtype).copy_(features, non_blocking=True)
        # A stream copies in order, so that the last event stands for all before it.
        event = self._pending[features.device] = torch.cuda.Event()
        event.record(torch.cuda.current_stream(features.device))
        return kept

    def wait(self) -> None:
        """Waits for the copies that are still under way."""
        while self._pending:
            self._pending.popitem()[1].synchronize()

    def _take(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """Pinned memory for one tensor; ordinary memory where the system has no more of it."""
        size = math.prod(shape) * dtype.itemsize
        if self._slab is None or self._used + size > len(self._slab):
            try:
                self._slab, self._used = torch.empty(max(_SLAB, size), dtype=torch.uint8, pin_memory=True), 0
            except RuntimeError:
                return torch.empty(shape, dtype=dtype)
        taken = self._slab[self._used : self._used + size]
        self._used += math.ceil(size / _ALIGNED) * _ALIGNED
        return taken.view(dtype).view(shape)


def _on_gpu(features: torch.Tensor) -> bool:
    return features.device.type == "cuda"
