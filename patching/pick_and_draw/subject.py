"""The subject of a reference at each noise level (Pick-and-Draw, arXiv 2401.16762, eq. 4-5), and its features there."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch

from ...kernels.heatmaps import inside
from ...kernels.pick_and_draw import saliency_mask
from ..features.host_memory import sent
from ..features.references import Reference
from ..features.taps import CrossAttentionTap, Tap, _Reading
from ..host.blocks import Block, Layer, layers_of
from ..host.family import SELF_INPUT, Family, Options
from ..host.run import Call
from ..host.words import WordTokens


@dataclass(frozen=True)
class Subject:
    """Words and maps that mark the subject in a reference at each noise level.

    words: of the caption. threshold: of the mean map, stretched to 0..1. blocks: names of those whose maps count.
    """

    words: WordTokens
    threshold: float
    blocks: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A name that differs from that of every other Subject, also in another session."""
        parts = (self.words.tokens, self.words.prompt_length, self.threshold, self.blocks)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class FeatureTap(Tap):
    """One kind of features of `host.family.FEATURES`."""

    kind: str = SELF_INPUT

    def tapped(self, reading: _Reading) -> Options:
        return self.family.tap_features(reading.call.options, self.kind, self.layers, reading.hidden_states)


@dataclass(eq=False)
class Seen:
    """A sink that keeps the latest values of each layer, and their (height, width)."""

    of: dict[Layer, tuple[torch.Tensor, tuple[int, int]]] = field(default_factory=dict)

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        self.of[layer] = (values, size)


@dataclass(eq=False)
class LevelReading:
    """Taps of one reference: its features, and the maps that mark the subject where a Subject is given."""

    node: str
    family: Family
    blocks: tuple[Block, ...]
    kind: str
    reference: Reference
    subject: Subject | None = None
    map_blocks: tuple[Block, ...] = ()
    ends: bool = False
    """True to end each model call after the last layer that is read."""
    _features: Seen = field(default_factory=Seen)
    _maps: Seen = field(default_factory=Seen)

    def taps(self) -> list[Tap]:
        ends = self._complete if self.ends else None
        taps: list[Tap] = [FeatureTap(self.node, self.family, self.blocks, self._features, ends=ends, kind=self.kind)]
        if self.subject is not None:
            words = self.subject.words
            taps.append(
                CrossAttentionTap(
                    self.node,
                    self.family,
                    self.map_blocks,
                    self._maps,
                    ends=ends,
                    tokens=words.tokens,
                    prompt_length=words.prompt_length,
                )
            )
        return taps

    def picked(self, layers: Collection[Layer]) -> dict[Layer, torch.Tensor]:
        """The subject's features in the latest model call, [1, tokens, channels] of each layer, which are forgotten."""
        found = {layer: self._features.of[layer] for layer in layers}
        made = {layer: values[:, sent(self._tokens(size), values.device)] for layer, (values, size) in found.items()}
        self._features.of.clear()
        self._maps.of.clear()
        return made

    def _complete(self) -> bool:
        """True where the current call has shown all layers of both taps."""
        read = len(self._features.of) == len(layers_of(self.blocks))
        return read and len(self._maps.of) == len(layers_of(self.map_blocks))

    def _tokens(self, size: tuple[int, int]) -> torch.Tensor:
        """Indices of the subject's tokens at a layer of (height, width)."""
        if self.subject is None:
            chosen = self.reference.tokens(size)
            return torch.arange(size[0] * size[1]) if chosen is None else chosen
        maps = [values.mean(-1).unflatten(1, seen) for values, seen in self._maps.of.values()]
        largest = max(((m.shape[1], m.shape[2]) for m in maps), key=math.prod)
        return inside(saliency_mask(maps, largest, self.subject.threshold), size)[0].nonzero()[:, 0]
