"""Features and inversions of a picture, kept as long as the picture, so that a node executed again finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from .bank import FeatureBank, digest_of
from .references import NOISED, Reference, References

_MOST = 4
"""Entries per picture: for another prompt or mask, and for several nodes."""

_kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""By the tensor of a node's input, which the host keeps while that input stays the same."""


def kept_with(picture: torch.Tensor, items: Sequence[Reference], node: str) -> References:
    """References with what earlier executions of a node have computed for the same picture, prompt and mask.

    picture: the node's input, [pictures, ...]. A seed counts for NOISED alone, since an inversion uses none.
    """
    if picture not in _kept:
        _kept[picture] = {}
    entries, most = _kept[picture], _MOST * len(items)
    found = []
    for i, item in enumerate(items):
        origin = (node, i, *_origin(item))
        inversions, own = _entry(entries, ("latents", *origin), most, lambda: ({}, {}))
        masked = (*origin, None if item.mask is None else digest_of([[item.mask, {}]]))
        bank, sizes, scaled = _entry(entries, ("features", *masked), most, lambda: (FeatureBank(), {}, {}))
        # Scaled pictures have scaled masks; without a mask only the picture counts.
        own = own if item.mask is None else scaled
        found.append(replace(item, bank=bank, inversions=inversions, sizes=sizes, _own=own))
    return References(tuple(found))


def _origin(item: Reference) -> tuple:
    """Everything but the picture and the mask that an inversion or a noised latent depends on."""
    latent = None if item.given is None else digest_of([[item.given["samples"], {}]])
    seed = item.seed if item.kind == NOISED else None
    return (item.kind, seed, latent, item.vae, digest_of(item.conditioning), item.inversion_steps, item.fits)


def _entry(entries: dict[tuple, Any], key: tuple, most: int, make: Callable[[], Any]) -> Any:
    """The entry under a key, which becomes the latest; the oldest of its kind goes where there are too many."""
    entries[key] = entries.pop(key) if key in entries else make()
    alike = [k for k in entries if k[0] == key[0]]
    for stale in alike[:-most]:
        del entries[stale]
    return entries[key]
