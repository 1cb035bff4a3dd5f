"""Checked values of a saved file, whose text and tensors anybody may have written. All raise ValueError."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import torch

from .blocks import Layer

_SEED_END = 2**64


def parsed(facts: Mapping[str, str], name: str) -> Any:
    """The JSON of one entry of the metadata."""
    if name not in facts:
        raise ValueError(f"no {name}")
    try:
        return json.loads(facts[name])
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deep") from error


def listed(value: Any, name: str, length: int | None = None) -> list:
    """The value, if it is a list, of a given length."""
    if not isinstance(value, list) or length not in (None, len(value)):
        raise ValueError(f"{name} is no list{'' if length is None else f' of {length}'}")
    return value


def named(value: Any, name: str) -> dict[str, Any]:
    """The value, if it is an object with names."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    return value


def text(value: Any, name: str, among: tuple[str, ...] = ()) -> str:
    """The value, if it is a text, one of `among` where these are given."""
    if not isinstance(value, str) or (among and value not in among):
        raise ValueError(f"{name} is no text{' among ' + ', '.join(among) if among else ''}")
    return value


def texts(value: Any, name: str) -> tuple[str, ...]:
    """The value, if it is a list of texts."""
    return tuple(text(one, name) for one in listed(value, name))


def truth(value: Any, name: str) -> bool:
    """The value, if it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf, infinite: bool = False) -> float:
    """The value, if it is a number from low to high. infinite: True where infinity is one."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    # A whole number may be too large for a float.
    if not fits or not (abs(value) <= sys.float_info.max or (infinite and abs(value) == math.inf)):
        raise ValueError(f"{name} is no number from {low:g} to {high:g}")
    return value


def numbers(value: Any, name: str, low: float = -math.inf) -> tuple[float, ...]:
    """The value, if it is a list of numbers."""
    return tuple(number(one, name, low) for one in listed(value, name))


def whole(value: Any, name: str, low: int = 0, end: int = _SEED_END) -> int:
    """The value, if it is a whole number from low to below end."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < end:
        raise ValueError(f"{name} is no whole number from {low} to {end - 1}")
    return value


def layer(value: Any, name: str) -> Layer:
    """The Layer that [kind, number, index] states."""
    kind, block, index = listed(value, name, 3)
    return Layer(text(kind, name), whole(block, name), whole(index, name))


def tensor(tensors: Mapping[str, torch.Tensor], name: str, *dimensions: int) -> torch.Tensor:
    """A copy of the tensor of this name: finite numbers, not empty, with one of these numbers of dimensions.

    The file is mapped into memory. Who writes over it would change, or end, whatever still reads it.
    """
    return mapped(tensors, name, *dimensions).clone()


def mapped(tensors: Mapping[str, torch.Tensor], name: str, *dimensions: int) -> torch.Tensor:
    """The same without a copy, for what is copied anyway."""
    found = tensors.get(name)
    if found is None:
        raise ValueError(f"no tensor {name}")
    if found.ndim not in dimensions or not found.numel() or not found.is_floating_point():
        wanted = " or ".join(map(str, dimensions))
        raise ValueError(f"{name} is {found.dtype} {tuple(found.shape)}, not numbers of {wanted} dimensions")
    check_finite(found, name)
    return found


def check_finite(values: torch.Tensor, name: str) -> None:
    """Raises ValueError for infinite numbers and for NaN."""
    # A sum needs no second tensor of this size.
    if not math.isfinite(float(values.sum(dtype=torch.float32))):
        raise ValueError(f"{name} has numbers that are not finite")
