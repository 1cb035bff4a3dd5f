"""Sheets of pictures: a row of pictures, and below it a row of heatmaps over them for each group of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ...kernels.heatmaps import overlay
from ..host.previews import CAPTION, captioned

_POINT, _PEAK = (0.3, 1.0, 0.4), (1.0, 1.0, 1.0)
"""Colors of the ring around the point, and of the one around the place it looks at most."""


class Group(NamedTuple):
    """A group of blocks. heats: [pictures, height, width] in 0..1. shares: of the attention, one per picture."""

    name: str
    heats: torch.Tensor
    shares: tuple[float, ...]


class Sheet(NamedTuple):
    """One picture of equal cells in rows and columns.

    pixels: [1, rows * (caption + height), columns * width, 3] in 0..1. cell: (height, width) of a picture without its
    caption. numbers: of the pictures, one per column, 0 where no point may be chosen.
    """

    pixels: torch.Tensor
    cell: tuple[int, int]
    numbers: tuple[int, ...]

    @property
    def places(self) -> dict[str, object]:
        """The geometry for a script that turns a click into a point."""
        height, width = self.cell
        return {"height": height, "width": width, "caption": CAPTION, "numbers": list(self.numbers)}


def sheet_of(
    pictures: torch.Tensor,
    names: Sequence[str],
    groups: Sequence[Group],
    *,
    point: tuple[int, float, float],
    numbers: Sequence[int],
) -> Sheet:
    """The sheet. pictures: [n, height, width, 3]. point: number of its picture, and fractions of width and height.

    The point has a ring in its own picture; in the others, and below it, the place that it looks at most has one.
    """
    n, height, width, _ = pictures.shape
    own, x, y = point
    column, row = min(int(x * width), width - 1), min(int(y * height), height - 1)
    plain = [ringed(pictures[i : i + 1], column, row, _POINT) if i == own else pictures[i : i + 1] for i in range(n)]
    rows = [[captioned(picture, name) for picture, name in zip(plain, names, strict=True)]]
    for group in groups:
        cells = []
        for i in range(n):
            heat = group.heats[i]
            cell = overlay(pictures[i : i + 1], heat[None])
            if bool(heat.any()):
                peak = int(heat.argmax())
                cell = ringed(cell, peak % width, peak // width, _PEAK)
            cell = ringed(cell, column, row, _POINT) if i == own else cell
            cells.append(captioned(cell, f"{group.name}: {group.shares[i]:.0%}"))
        rows.append(cells)
    pixels = torch.cat([torch.cat(cells, 2) for cells in rows], 1)
    return Sheet(pixels, (height, width), tuple(numbers))


def fitted(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pictures [n, channels, height, width] or maps [n, height, width] scaled to fit into size, with zeros around."""
    height, width = pictures.shape[-2:]
    if (height, width) == size:
        return pictures
    scale = min(size[0] / height, size[1] / width)
    rows, columns = max(1, min(size[0], round(height * scale))), max(1, min(size[1], round(width * scale)))
    flat = pictures if pictures.ndim == 4 else pictures[:, None]
    inside = F.interpolate(flat, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
    left, top = (size[1] - columns) // 2, (size[0] - rows) // 2
    placed = F.pad(inside, [left, size[1] - columns - left, top, size[0] - rows - top])
    return placed if pictures.ndim == 4 else placed[:, 0]


def ringed(picture: torch.Tensor, column: int, row: int, color: tuple[float, float, float]) -> torch.Tensor:
    """A picture [1, height, width, 3] with a ring around a pixel, dark outside so that it shows on every ground."""
    _, height, width, _ = picture.shape
    radius = max(3.0, min(height, width) / 32)
    line = radius / 3
    down, right = torch.arange(height) - row, torch.arange(width) - column
    distance = (down[:, None].square() + right.square()).sqrt()[..., None]
    dark = torch.where((distance - radius).abs() <= 1.5 * line, torch.zeros(3), picture)
    return torch.where((distance - radius).abs() <= 0.75 * line, torch.tensor(color), dark)
