"""Compares MODELs and nested options by content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_BEHAVIOR = (
    "patches",
    "object_patches",
    "weight_wrapper_patches",
    "hook_patches",
    "model_options",
    "wrappers",
    "callbacks",
    "injections",
    "attachments",
    "additional_models",
)


def same_model(first: ModelPatcher, second: ModelPatcher) -> bool:
    """True if two MODELs share weights and patches, and so compute the same function."""
    if first.model is not second.model:
        return False
    return all(same(getattr(first, kind, None), getattr(second, kind, None)) for kind in _BEHAVIOR)


def same(first: Any, second: Any) -> bool:
    """True if nested dictionaries, lists and tuples are equal.

    Numbers, texts and tensors are compared by value, other objects by identity.
    """
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, torch.Tensor):
        return first.device == second.device and first.dtype == second.dtype and torch.equal(first, second)
    return isinstance(first, int | float | str) and first == second


def added(now: dict, before: dict, onto: dict) -> dict:
    """A copy of `onto` with all additions of `now` to `before`: new keys, new values and new list items."""
    merged = dict(onto)
    for key, value in now.items():
        old = before.get(key)
        if same(value, old):
            continue
        if isinstance(value, dict):
            merged[key] = added(value, old or {}, merged.get(key) or {})
        elif isinstance(value, list):
            merged[key] = [
                *(merged.get(key) or []),
                *(item for item in value if not any(same(item, known) for known in old or [])),
            ]
        else:
            merged[key] = value
    return merged
