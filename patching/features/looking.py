"""One point of a picture, and where in other pictures the attention of a run looks from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import torch

from ...kernels.correspondences import token_at
from ..host.blocks import Layer
from ..host.window import Window

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider


@dataclass(frozen=True)
class Point:
    """A point of a picture. picture: its number in the set, from 0. x, y: fractions of its width and height."""

    picture: int
    x: float
    y: float

    def token(self, size: tuple[int, int]) -> int:
        """The token that holds it at a layer of (height, width)."""
        return token_at(self.x, self.y, size)


@dataclass(frozen=True, eq=False)
class Looks:
    """Weights of the attention of one point. A change of self-attention that has a Looks records them.

    layers: those to record. maps: by layer, for every model call, one map [height, width] per picture.
    """

    point: Point
    layers: frozenset[Layer]
    maps: dict[Layer, list[tuple[torch.Tensor, ...]]] = field(default_factory=dict)
    _numbers: dict[tuple, torch.Tensor] = field(default_factory=dict)

    def record(self, layer: Layer, maps: Sequence[torch.Tensor]) -> None:
        """Keeps the maps of one layer in one model call."""
        self.maps.setdefault(layer, []).append(tuple(maps))

    def numbers(self, rows: int, tokens: int, device: torch.device) -> torch.Tensor:
        """The numbers of all keys for `kernels.correspondences.looked_at`, [rows, tokens, 1]."""
        key = (rows, tokens, device)
        if key not in self._numbers:
            self._numbers[key] = torch.arange(rows * tokens, device=device).view(rows, tokens, 1)
        return self._numbers[key]


class Shown(NamedTuple):
    """One picture of a view. samples: its latent. number: by which the user chooses it, 0 where a point may not be."""

    name: str
    samples: torch.Tensor
    number: int = 0


@dataclass(frozen=True)
class View:
    """A run that records where a point looks.

    guider: makes the run's model calls. samples: the latents that it denoises. pictures: in the order of the maps.
    own: the place of the point's picture among them. window: the part of sampling in which pictures look at each other.
    node: that of the method, for messages.
    """

    guider: CFGGuider
    samples: torch.Tensor
    pictures: tuple[Shown, ...]
    own: int
    window: Window
    node: str


@runtime_checkable
class Viewed(Protocol):
    """A guider, or a patch of its MODEL, whose pictures look at other pictures."""

    @property
    def looking_layers(self) -> tuple[Layer, ...]:
        """The layers in which they do."""
        ...

    def view(self, guider: CFGGuider, samples: torch.Tensor, looks: Looks, node: str) -> View:
        """The run that records into `looks` on finished pictures. It changes neither guider nor MODEL.

        samples: those of the LATENT that the guider has made. Raises ValueError for another number of pictures, and for
        a point in a picture that has none.
        """
        ...


def check_picture(number: int, most: int, node: str) -> None:
    """Raises ValueError for the number of a picture, from 1, past the last one."""
    if not 1 <= number <= most:
        raise ValueError(f"{node}: expected picture from 1 to {most}, got {number}; change picture.")
