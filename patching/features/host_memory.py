"""RAM for features of a GPU: pinned, so that neither the GPU nor the host waits for copies in either direction."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field

import comfy.model_management
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
        # The host samples in inference mode, whose tensors no later run could use with gradients.
        with torch.inference_mode(False), torch.no_grad():
            return self._copied(features)

    def _copied(self, features: torch.Tensor) -> torch.Tensor:
        if not _on_gpu(features.device):
            # Those of a saved file go to the GPU in every later run.
            pinned = _on_gpu(comfy.model_management.get_torch_device())
            kept = self._take(features.shape, features.dtype) if pinned else _ordinary(features.shape, features.dtype)
            return kept.copy_(features)
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
                return _ordinary(shape, dtype)
        taken = self._slab[self._used : self._used + size]
        self._used += math.ceil(size / _ALIGNED) * _ALIGNED
        return taken.view(dtype).view(shape)


def sent(kept: torch.Tensor, to: torch.Tensor | torch.device) -> torch.Tensor:
    """A tensor on a device, or on that of another tensor and in its type, without a wait for the device.

    Changes of a tensor in RAM after this may still reach the copy.
    """
    device = to if isinstance(to, torch.device) else to.device
    if _on_gpu(device) and not _on_gpu(kept.device) and not kept.is_pinned():
        with contextlib.suppress(RuntimeError):  # the copy waits where the system has no more pinned memory
            kept = torch.empty(kept.shape, dtype=kept.dtype, pin_memory=True).copy_(kept)
    # In one step PyTorch would change the type on the CPU first, in memory that is not pinned.
    moved = kept.to(device, non_blocking=True)
    return moved.to(to.dtype) if isinstance(to, torch.Tensor) else moved


def _on_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def _ordinary(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype)
