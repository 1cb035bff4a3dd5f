"""Hooks beside torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

_Hook = TypeVar("_Hook", bound=Callable)


def uncompiled(hook: _Hook) -> _Hook:
    """Keeps a function out of what torch.compile compiles.

    What a hook keeps of a call, such as the features that it reads, would be lost.
    """
    return torch.compiler.disable(hook)  # pyright: ignore[reportReturnType] - it is called as the function was
