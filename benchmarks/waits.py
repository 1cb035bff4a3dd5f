"""Number of times that a run waits for the device."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::unique_dim"}
_READS |= {"aten::item", "aten::is_nonzero"}
"""The last two are what inference mode shows of reads."""
_INDEXED = {"aten::index", "aten::index_put_"}


class Waits:
    """Number of waits so far."""

    def __init__(self) -> None:
        self.count = 0


class _Reads(TorchDispatchMode):
    """Counts operations that read values of tensors, each of which would wait if the tensor were on a GPU.

    Copies do not show: a CPU has nowhere to copy to. Tensors that would lie in RAM count, too.
    """

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        by_mask = name in _INDEXED and any(
            isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1])
        )
        self.waits.count += name in _READS or by_mask
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def counted_waits() -> Iterator[Waits]:
    """Counts the waits within the block: on a GPU all that PyTorch reports, on a CPU the reads of tensors' values."""
    waits = Waits()
    if not torch.cuda.is_available():
        with _Reads(waits):
            yield waits
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode(before)
            waits.count += sum("synchronizing" in str(warning.message) for warning in told)
