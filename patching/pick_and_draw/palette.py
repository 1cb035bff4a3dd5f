"""Palettes (Pick-and-Draw, arXiv 2401.16762, eq. 5): the subject's features in pictures of it, per noise level."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..features.bank import HIDDEN, Key
from ..features.host_memory import sent
from ..features.references import INVERTED, Reference, References
from ..features.room import level_size, tell_size
from ..features.sources import Inverted, Source
from ..host.attach import attach, bare
from ..host.blocks import Layer, layers_of, parse
from ..host.checks import image_latent
from ..host.families import discover, family_of
from ..host.family import KEYS, SELF_INPUT
from ..host.identity import Identity, identity_of
from ..host.notices import Notices
from ..host.passes import Denoise, run_pass, unwrapped
from ..host.window import ALWAYS, Window
from .null_text import NULL_TEXT, null_text
from .subject import LevelReading, Subject

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

NODE = "Appearance Palette"
_MODELS = 2
"""Models whose null-text inversions are kept."""


@dataclass(frozen=True, eq=False)
class Palette:
    """References, each with the mask of its subject, and the blocks that their features come from.

    blocks: names, in call order; family: of the model that it was made with; context: the width of its text features;
    window: the part of sampling that features are kept for; kind: of the features, one of `host.family.FEATURES`;
    subjects: per reference, the way to find its subject at each noise level, None where the reference's mask says it,
    and empty where all have one; empty_prompt: CONDITIONING for references of kind NULL_TEXT.
    """

    references: References
    blocks: tuple[str, ...]
    family: str
    context: int
    window: Window = ALWAYS
    kind: str = SELF_INPUT
    subjects: tuple[Subject | None, ...] = ()
    empty_prompt: list | None = None

    def subject(self, number: int) -> Subject | None:
        """The way to find a reference's subject at each noise level; None for the reference's own mask."""
        return self.subjects[number] if self.subjects else None

    def __str__(self) -> str:
        kind = "" if self.kind == SELF_INPUT else f", {self.kind.replace('_', ' ')}"
        return f"palette of {', '.join(self.blocks)}{kind}\n{self.references}"

    def key(self, weights: str, layer: Layer, number: int) -> Key:
        """The key of one layer's features in a reference's bank."""
        # Palettes of the first version have this one kind.
        kind, subject = HIDDEN if self.kind == SELF_INPUT else self.kind, self.subject(number)
        return Key(weights, kind if subject is None else f"{kind} {subject.digest}", layer, True)

    def features(self, weights: str, layer: Layer, sigma: float) -> list[tuple[torch.Tensor, float]]:
        """Every reference's features at a noise level, [tokens, channels] on the CPU, and its weight.

        Raises RuntimeError where `fill` has not computed them.
        """
        found = [
            (item.bank.get(self.key(weights, layer, number), sigma), item.weight)
            for number, item in enumerate(self.references.items)
        ]
        if any(values is None for values, _ in found):
            raise RuntimeError(
                f"{NODE}: expected features of {layer.kind}{layer.number} at noise level {sigma:g}, got none; compute "
                "them first."
            )
        return [(values[0], weight) for values, weight in found if values is not None]


def joined(
    parts: Sequence[tuple[torch.Tensor, float]], like: torch.Tensor, known: dict[tuple, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Tokens of several references in one tensor, with the weight of each token; None where all are equal.

    parts: of `Palette.features`. like: gives device and type. known: weights of the run's other layers and levels.
    """
    tokens = torch.cat([sent(features, like) for features, _ in parts])
    if len({weight for _, weight in parts}) == 1:
        return tokens, None
    counts = tuple((len(features), weight) for features, weight in parts)
    if (like.device, counts) not in known:
        known[like.device, counts] = torch.cat([torch.full((n,), w, device=like.device) for n, w in counts])
    return tokens, known[like.device, counts]


def fill(
    palette: Palette,
    model: ModelPatcher,
    levels: Sequence[float],
    schedule: Sequence[float],
    node: str,
    identity: Identity | None = None,
    notices: Notices | None = None,
) -> None:
    """Computes the features that the references' banks lack at these noise levels.

    This costs one model call per level, and for inverted references an inversion. schedule: all noise levels of the
    run. model: the MODEL that will be guided; the pack's own patches on it do not act on a reference. identity: of this
    model, found here by default. notices: told how much RAM many features take.
    """
    model, family = bare(model), family_of(model, node)
    blocks = parse(" ".join(palette.blocks), discover(model, node), node)
    layers = layers_of(blocks)
    identity = identity or identity_of(model)
    weights, items = identity.name, palette.references.items
    if notices is not None:
        needed = sum(
            len(_missing(palette, number, weights, layers, levels)) * level_size(model, item, layers, node)
            for number, item in enumerate(items)
        )
        needed //= 2 if family.lends == KEYS else 1  # features are half of keys and values
        tell_size(f"the palette's features at {len(levels)} noise levels", needed, notices)
    for number, item in enumerate(items):
        if not _missing(palette, number, weights, layers, levels):
            continue
        source = _source(palette, item, model, schedule, identity, node)  # another inversion empties the bank
        missing = _missing(palette, number, weights, layers, levels)
        subject = palette.subject(number)
        maps = () if subject is None else parse(" ".join(subject.blocks), discover(model, node), node)
        reading = LevelReading(
            node,
            family,
            blocks,
            kind=palette.kind,
            reference=item,
            subject=subject,
            map_blocks=maps,
            ends=unwrapped(model),
        )
        keys = {layer: palette.key(weights, layer, number) for layer in layers}

        def observe(
            denoise: Denoise, clean: torch.Tensor, source=source, missing=missing, read=reading, keys=keys
        ) -> None:
            for sigma in missing:
                denoise(sent(source.at(sigma), clean), sigma)
                for layer, values in read.picked(layers).items():
                    read.reference.bank.put(keys[layer], sigma, values)

        tapped = functools.reduce(attach, reading.taps(), model)
        run_pass(tapped, item.conditioning, image_latent(model, item.latent, node), missing, observe)


def _source(
    palette: Palette, item: Reference, model: ModelPatcher, schedule: Sequence[float], identity: Identity, node: str
) -> Source:
    """The reference at the levels of a schedule."""
    if item.kind != NULL_TEXT:
        return item.source(model, schedule, node, identity)
    assert palette.empty_prompt is not None
    known, steps = item.inversions.get(identity.name), max(item.inversion_steps, len({s for s in schedule if s > 0}))
    if known is None or not known.serves(steps, schedule):
        pivots = replace(item, kind=INVERTED, inversions={}).source(model, schedule, node, identity)
        assert isinstance(pivots, Inverted)
        known = item.inversions[identity.name] = null_text(model, item, palette.empty_prompt, pivots, node)
        for stale in list(item.inversions)[:-_MODELS]:
            item.forget(stale)
    return known


def _missing(
    palette: Palette, number: int, weights: str, layers: Sequence[Layer], levels: Sequence[float]
) -> list[float]:
    """The levels at which a reference's bank lacks any of the layers."""
    keys, bank = [palette.key(weights, layer, number) for layer in layers], palette.references.items[number].bank
    return [s for s in levels if any(bank.get(key, s) is None for key in keys)]
