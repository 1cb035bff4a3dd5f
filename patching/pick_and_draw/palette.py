"""Palettes (Pick-and-Draw, arXiv 2401.16762, eq. 5): the subject's features in pictures of it, per noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..features.bank import HIDDEN, Key
from ..features.references import Reference, References
from ..features.taps import BankSink, HiddenStateTap
from ..host.attach import attach, bare
from ..host.blocks import Layer, layers_of, parse
from ..host.checks import image_latent
from ..host.families import discover, family_of
from ..host.identity import Identity, identity_of
from ..host.passes import Denoise, run_pass
from ..host.window import ALWAYS, Window

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

NODE = "AppearancePalette"


@dataclass(frozen=True, eq=False)
class Palette:
    """References, each with the mask of its subject, and the blocks whose self-attention inputs are their features.

    blocks: names, in call order; family: of the model that it was made with; context: the width of its text features;
    window: the part of sampling that features are kept for.
    """

    references: References
    blocks: tuple[str, ...]
    family: str
    context: int
    window: Window = ALWAYS

    def __str__(self) -> str:
        return f"palette of {', '.join(self.blocks)}\n{self.references}"

    def features(self, weights: str, layer: Layer, sigma: float) -> list[tuple[torch.Tensor, float]]:
        """Every reference's features at a noise level, [tokens, channels] on the CPU, and its weight.

        Raises RuntimeError where `fill` has not computed them.
        """
        found = [
            (item.bank.get(Key(weights, HIDDEN, layer, True), sigma), item.weight) for item in self.references.items
        ]
        if any(values is None for values, _ in found):
            raise RuntimeError(
                f"{NODE}: expected features of {layer.kind}{layer.number} at noise level {sigma:g}, got none; compute "
                "them first."
            )
        return [(values[0], weight) for values, weight in found if values is not None]


def fill(
    palette: Palette,
    model: ModelPatcher,
    levels: Sequence[float],
    schedule: Sequence[float],
    node: str,
    identity: Identity | None = None,
) -> None:
    """Computes the features that the references' banks lack at these noise levels.

    This costs one model call per level, and for inverted references an inversion. schedule: all noise levels of the
    run. model: the MODEL that will be guided; the pack's own patches on it do not act on a reference. identity: of this
    model, found here by default.
    """
    model, family = bare(model), family_of(model, node)
    blocks = parse(" ".join(palette.blocks), discover(model, node), node)
    layers = layers_of(blocks)
    identity = identity or identity_of(model)
    weights = identity.name
    for item in palette.references.items:
        if not _missing(item, weights, layers, levels):
            continue
        source = item.source(model, schedule, node, identity)  # another inversion empties the bank
        missing = _missing(item, weights, layers, levels)
        tap = HiddenStateTap(node, family, blocks, BankSink(HIDDEN, weights, item.bank, item.tokens))

        def observe(denoise: Denoise, clean: torch.Tensor, source=source, missing=missing) -> None:
            for sigma in missing:
                denoise(source.at(sigma).to(clean), sigma)

        run_pass(attach(model, tap), item.conditioning, image_latent(model, item.latent, node), missing, observe)


def _missing(item: Reference, weights: str, layers: Sequence[Layer], levels: Sequence[float]) -> list[float]:
    """The levels at which a reference's bank lacks any of the layers."""
    return [s for s in levels if any(item.bank.get(Key(weights, HIDDEN, layer, True), s) is None for layer in layers)]
