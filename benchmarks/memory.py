"""Peak memory of a run: of its tensors on a CPU, of the allocator on a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_COSTLY = frozenset(
    getattr(torch.ops.aten, name)
    for name in (
        *("mm", "bmm", "addmm", "baddbmm", "linear", "matmul", "einsum"),
        *("conv2d", "convolution", "convolution_backward", "scaled_dot_product_attention"),
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"),
    )
)
_LIGHT = frozenset(
    getattr(torch.ops.aten, name)
    for name in (
        *("add", "mul", "gelu", "layer_norm", "group_norm", "gelu_backward", "silu", "silu_backward", "clone", "cat"),
        *("native_layer_norm", "native_layer_norm_backward", "native_group_norm", "native_group_norm_backward"),
    )
)
"""Operations that take long on large tensors alone."""
_LARGE = 2**18
_POOL = 2**20
"""Random numbers at the beginning of a result; the rest of a larger one is zero."""


class PeakMemory(TorchDispatchMode):
    """Peak bytes of live tensors above the start. Exact, unlike the process's resident size, which keeps freed
    pages."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values = tree_leaves((args, kwargs))
        given = {x.untyped_storage().data_ptr() for x in values if isinstance(x, torch.Tensor)}
        given |= {x.data_ptr() for x in values if isinstance(x, torch.UntypedStorage)}
        result = self._call(func, args, kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage(), given)
        return result

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        return func(*args, **kwargs)

    def _add(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage.data_ptr()
        if key in given or key in self._known or not storage.nbytes():
            return
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        self._known[key] = weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self.now -= size
        del self._known[key]


class ShapesOnly(PeakMemory):
    """Peak bytes of live tensors of a run whose matrix products, convolutions and attention give random numbers.

    So do other operations on large tensors. Their results have the right shapes, so that a CPU gets through a run at
    the size of a GPU. The system gives no memory to what is never written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pools: dict[torch.dtype, torch.Tensor] = {}

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        light = func._overloadpacket in _LIGHT
        if not light and func._overloadpacket not in _COSTLY:
            return func(*args, **kwargs)
        tensors = (x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor))
        if light and max((x.numel() for x in tensors), default=0) < _LARGE:
            return func(*args, **kwargs)
        given = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, (args, kwargs))
        return tree_map(self._filled, func(*given[0], **given[1]))

    def _filled(self, shape: Any) -> Any:
        """Random numbers and zeros in the place of a result; anything but a tensor stays."""
        if not isinstance(shape, torch.Tensor):
            return shape
        # Elements in the order of memory, whatever the strides are.
        flat = untouched_zeros(shape.untyped_storage().nbytes() // shape.itemsize, shape.dtype)
        made = flat.as_strided(shape.shape, shape.stride())
        if not shape.is_floating_point():
            return made
        pool = self._pools.get(shape.dtype)
        if pool is None:
            pool = self._pools[shape.dtype] = torch.randn(_POOL).to(shape.dtype)
        head = flat[:_POOL]
        head.copy_(pool[: len(head)])
        return made


def untouched_zeros(count: int, dtype: torch.dtype) -> torch.Tensor:
    """Zeros for which the system takes memory only where they are written; PyTorch's own are written at once."""
    return torch.from_numpy(np.zeros(count * dtype.itemsize, np.uint8)).view(dtype)


def peak_bytes(run: Callable[[], object]) -> float:
    """Peak bytes of tensors above the start of the run."""
    if not torch.cuda.is_available():
        with PeakMemory() as memory:
            run()
        return float(memory.peak)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return float(torch.cuda.max_memory_allocated() - before)
