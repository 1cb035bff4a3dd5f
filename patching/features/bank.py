"""Features that taps recorded, kept in RAM for later runs with the same noise levels."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ..host.blocks import Layer
from ..host.family import HIDDEN, KEYS
from ..host.fingerprint import Fingerprint
from .host_memory import HostMemory

OUTPUT = "output"
KINDS = (HIDDEN, KEYS, OUTPUT)
"""Kinds of features: what a layer lends (`Family.lends`), and the output of its self-attention."""

_TOLERANCE = 1e-4
_MODELS = 2
_NEGATIVES = 2
_NOT_ENCODED = ("pooled_output", "model_conds", "uuid")
"""Entries of a CONDITIONING that count by themselves, or that the host makes of the others."""


class Key(NamedTuple):
    """The identity of features in a bank.

    weights: the name of the model's `Identity`, empty for those of a layout's own run. kind: one of KINDS, or one of
    the palette's. negative_digest: `digest_of` the run's negative prompt for a picture's
    unconditional rows, empty for features of the picture's own prompt.
    """

    weights: str
    kind: str
    layer: Layer
    conditional: bool
    negative_digest: str = ""


_banks: weakref.WeakSet[FeatureBank] = weakref.WeakSet()
"""All banks that something still uses."""


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """[rows, tokens, channels] per key and noise level, in the model's own precision, on the CPU; thread-safe.

    Only the last two models and the last two negative prompts are kept. A long series of LoRA strengths or negative
    prompts does not fill the RAM. Features of a layout's own run, which belong to no model, stay.
    """

    _entries: dict[Key, dict[float, torch.Tensor]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _memory: HostMemory = field(default_factory=HostMemory)

    def __post_init__(self):
        _banks.add(self)

    def put(self, key: Key, sigma: float, features: torch.Tensor) -> None:
        with self._lock:
            kept = self._memory.copy_of(features)
            self._entries.setdefault(key, {})[sigma] = kept
            for stale in list(dict.fromkeys(k.weights for k in self._entries if k.weights))[:-_MODELS]:
                self._drop(lambda k, stale=stale: k.weights == stale)
            for stale in list(dict.fromkeys(k.negative_digest for k in self._entries if k.negative_digest))[
                :-_NEGATIVES
            ]:
                self._drop(lambda k, stale=stale: k.negative_digest == stale)

    def forget(self, weights: str) -> None:
        """Drops the features that a model of this identity made."""
        with self._lock:
            self._drop(lambda k: k.weights == weights)

    @property
    def levels(self) -> set[float]:
        """The noise levels of all features."""
        with self._lock:
            return {sigma for levels in self._entries.values() for sigma in levels}

    def keep_levels(self, sigmas: Sequence[float]) -> None:
        """Drops the features at all other noise levels."""
        with self._lock:
            for levels in self._entries.values():
                for sigma in [s for s in levels if not any(_equal(s, kept) for kept in sigmas)]:
                    del levels[sigma]

    def _drop(self, stale: Callable[[Key], bool]) -> None:
        for key in [k for k in self._entries if stale(k)]:
            del self._entries[key]

    def get(self, key: Key, sigma: float) -> torch.Tensor | None:
        """The features at a noise level, or None where none were recorded there."""
        with self._lock:
            levels = self._entries.get(key, {})
            near = [sigma] if sigma in levels else [s for s in levels if _equal(s, sigma)]
            if not near:
                return None
            self._memory.wait()
            return levels[min(near, key=lambda s: abs(s - sigma))]

    def items(self) -> Iterator[tuple[Key, float, torch.Tensor]]:
        with self._lock:
            self._memory.wait()
            listed = [(key, sigma, t) for key, levels in self._entries.items() for sigma, t in levels.items()]
        return iter(listed)

    @property
    def size_in_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for _, _, t in self.items())

    def clear(self) -> None:
        """Drops all features that a model can make again; those of a layout's own run stay."""
        with self._lock:
            self._drop(lambda key: bool(key.weights))

    def describe(self) -> str:
        """One line for the log."""
        items = list(self.items())
        levels, layers = len({sigma for _, sigma, _ in items}), len({key.layer for key, _, _ in items})
        return f"{levels} noise levels of {layers} layers, {self.size_in_bytes / 2**20:.2f} MiB of RAM"


def kept_bytes() -> int:
    """The RAM of the features that `forget_all` drops."""
    made_again = (t for bank in list(_banks) for key, _, t in bank.items() if key.weights)
    return sum(t.numel() * t.element_size() for t in made_again)


def forget_all() -> None:
    """Drops the features of all banks; a later run computes what it needs again."""
    for bank in list(_banks):
        bank.clear()


def _equal(recorded: float, sigma: float) -> bool:
    return abs(recorded - sigma) <= _TOLERANCE * max(abs(sigma), 1e-3)


def digest_of(conditioning: list) -> str:
    """A digest of a plain CONDITIONING: its text, and what the model encodes beside it, such as SDXL's sizes."""
    text, rest = conditioning[0]
    digest = hashlib.sha256()
    for tensor in (text, rest.get("pooled_output")):
        if tensor is not None:
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    beside = {k: v for k, v in rest.items() if v is not None and k not in _NOT_ENCODED}
    if beside:
        fingerprint = Fingerprint({})
        fingerprint.add(beside)
        digest.update(fingerprint.hexdigest().encode())
    return digest.hexdigest()[:16]
