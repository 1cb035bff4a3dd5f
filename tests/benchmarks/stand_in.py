"""A stand-in for a GPU: the CPU by the name of cpu:0, whose tensors are told apart from those in RAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cpu", 0)
"""PyTorch computes on it as on the CPU, but it is another device by comparison."""

_READS = {"item", "tolist", "numpy", "nonzero", "argwhere", "equal", "allclose", "masked_select", "unique"}
_READS |= {"__float__", "__int__", "__bool__", "__index__", "__contains__"}
_MOVES = {"to", "cpu"}
_FROM_LISTS = {"tensor", "as_tensor", "new_tensor"}


class StandIn(TorchFunctionMode):
    """Marks the tensors of the device, and calls `waited` where the host would wait for a GPU.

    waited(name): of the function. That is a read of values, a mask or a list as an index, and a copy in either
    direction that is not asked to be free of waits.
    """

    def __init__(self, waited: Callable[[str], None]) -> None:
        super().__init__()
        self.waited = waited

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if getattr(func, "__self__", None) is torch.Tensor.device:
            return DEVICE if _is_there(args[0]) else torch.device("cpu")
        if name in _MOVES and isinstance(args[0], torch.Tensor):
            return self._moved(func, name, args, kwargs)
        there = any(_is_there(leaf) for leaf in tree_leaves((args, kwargs)))
        if name == "copy_" and _is_there(args[0]) != _is_there(args[1]):
            there = _is_there(args[0])
            self._copied(name, args[2:], kwargs)
        elif there and (name in _READS or (name in ("__getitem__", "__setitem__") and _is_read(args[1]))):
            self.waited(name)
        made = func(*args, **kwargs)
        device = kwargs.get("device")
        if device is not None:
            there = _names_it(device)
        if there and name in _FROM_LISTS:
            self.waited(name)
        return _marked(made) if there else made

    def _moved(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        first, *rest = args
        made, there = func(*args, **kwargs), _is_there(first)
        devices = [v for v in (*rest, *kwargs.values()) if isinstance(v, torch.device | str | torch.Tensor)]
        if name == "cpu":
            goes = False
        elif devices:
            goes = _is_there(devices[0]) if isinstance(devices[0], torch.Tensor) else _names_it(devices[0])
        else:
            goes = there
        if goes != there:
            self._copied(name, [a for a in rest if isinstance(a, bool)], kwargs)
            made = made.view_as(made) if made is first else made
        return _marked(made) if goes else made

    def _copied(self, name: str, given: Any, kwargs: Any) -> None:
        if not (kwargs.get("non_blocking") or (given and given[0])):
            self.waited(name)


def _is_there(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and getattr(value, "_is_there", False)


def _marked(made: Any) -> Any:
    for leaf in tree_leaves(made):
        if isinstance(leaf, torch.Tensor):
            leaf._is_there = True  # pyright: ignore[reportAttributeAccessIssue]
    return made


def _names_it(device: Any) -> bool:
    return torch.device(device) == DEVICE


def _is_read(index: Any) -> bool:
    """True for an index whose values the host reads, or that it copies to the device."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, list) or (isinstance(p, torch.Tensor) and p.dtype == torch.bool) for p in parts)
