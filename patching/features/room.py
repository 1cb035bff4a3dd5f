"""Room in RAM for the features that a run adds to its references' banks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch

from ..host.blocks import Layer
from ..host.families import hidden_shapes
from ..host.family import KEYS
from ..host.notices import Notices
from .references import Reference
from .run_features import Side

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

GIB = 2**30
_SHARE = 0.5
"""Share of the free RAM that features may take where no limit is given."""
_MOST_LEVELS = 100
"""Noise levels that a bank keeps of earlier schedules and of a run together."""
_WORTH_TELLING = GIB / 4
_ADVICE = "; set mode to sequential on Reference Retouch to save it"


@dataclass(frozen=True)
class Demand:
    """Features of a run in one reference's bank. sides: the sides of guidance; size: in bytes, for each level and side.

    weights: those of the run's model, as in `bank.Key`.
    """

    reference: Reference
    sides: tuple[Side, ...]
    layers: tuple[Layer, ...]
    weights: str
    size: int

    def missing(self, sigmas: Sequence[float]) -> int:
        """The number of features that the bank lacks, each of one level and one side."""
        bank, keys = self.reference.bank, [[side.key(self.weights, n) for n in self.layers] for side in self.sides]
        return sum(any(bank.get(key, sigma) is None for key in of_side) for of_side in keys for sigma in sigmas)


def level_size(model: ModelPatcher, reference: Reference, layers: Sequence[Layer], node: str) -> int:
    """The bytes of a reference's masked features at one noise level, on one side of guidance."""
    return features_size(model, reference.size, layers, node, reference.tokens)


def features_size(
    model: ModelPatcher,
    size: tuple[int, int],
    layers: Sequence[Layer],
    node: str,
    chosen: Callable[[tuple[int, int]], torch.Tensor | None] = lambda _: None,
) -> int:
    """The bytes of one picture's features in one model call, for latents of `size`.

    chosen: the tokens that are kept at a layer of (height, width), None for all.
    """
    shapes = hidden_shapes(model, size, node)
    tokens: dict[tuple[int, int], int] = {}
    for place, _ in shapes.values():
        if place not in tokens:
            inside = chosen(place)
            tokens[place] = place[0] * place[1] if inside is None else len(inside)
    dtype: torch.dtype = model.model.manual_cast_dtype or model.model.get_dtype()
    return dtype.itemsize * sum(tokens[place] * width for place, width in (shapes[layer] for layer in layers))


def tell_size(what: str, needed: float, notices: Notices) -> None:
    """Tells of features whose bytes are many, before they are computed."""
    if needed >= _WORTH_TELLING:
        notices.inform(f"{what} take about {needed / GIB:.2f} GiB of RAM.")


def find_room(demands: Sequence[Demand], sigmas: Sequence[float], limit: float, notices: Notices) -> bool:
    """True where the banks can take a run's features; tells how much they need.

    limit: in GiB, 0 for half of the free RAM. Features of other schedules make room where they have to.
    """
    for demand in demands:
        bank = demand.reference.bank
        if demand.missing(sigmas) and len(bank.levels | {*sigmas}) > max(_MOST_LEVELS, 2 * len(sigmas)):
            bank.keep_levels(sigmas)
    needed = sum(demand.size * demand.missing(sigmas) for demand in demands)
    if not needed:
        return True
    if limit and _held(demands) + needed > limit * GIB:
        for demand in demands:
            demand.reference.bank.keep_levels(sigmas)
    most = limit * GIB - _held(demands) if limit else _SHARE * _free_ram()
    pictures, levels = _counted(len(demands), "reference picture"), _counted(len(sigmas), "noise level")
    what = f"the features of {pictures} at {levels} take {needed / GIB:.2f} GiB of RAM"
    if needed > most:
        notices.tell(
            f"{what}, but {max(0.0, most) / GIB:.2f} GiB are free for them, so every run computes them anew, as with "
            "mode sequential; mask the subject, or raise bank_limit or reference_every or name fewer blocks on "
            "Reference Retouch."
        )
        return False
    if needed >= _WORTH_TELLING:
        # Keys and values of a transformer's blocks are far larger than a U-Net's hidden states.
        large = any(side.kind == KEYS for demand in demands for side in demand.sides)
        notices.inform(f"{what} after this run{_ADVICE if large else ''}.")
    return True


def has_room(size: int) -> bool:
    """True where features of `size` bytes fit into their share of the free RAM."""
    return size <= _SHARE * _free_ram()


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _free_ram() -> float:
    free: Any = comfy.model_management.get_free_memory(torch.device("cpu"))
    return float(free)


def _held(demands: Sequence[Demand]) -> int:
    return sum(demand.reference.bank.size_in_bytes for demand in demands)
