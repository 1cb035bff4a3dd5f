"""Sweep of a benchmark: rows of a grid whose cells may be drawn in any order, and by several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .grid import Cell, Grid, Part, drawn
from .kept import Kept

if TYPE_CHECKING:
    from comfy.sd import VAE


@dataclass(frozen=True)
class Sweep:
    """Rows that `Grid.sample_cells` draws with the same arguments."""

    names: tuple[str, ...]
    cell: Cell
    vae: VAE
    grid: Grid
    kept: Kept
    label: str

    def files(self) -> Iterator[tuple[Path, Part]]:
        """Cells with their files in the cache."""
        for part in self.grid.parts(self.names, self.label):
            yield self.kept.path(part.name, part.subject.name), part

    def draw(self, part: Part) -> np.ndarray:
        """Pictures of a cell."""
        return drawn(self.names, self.cell, self.vae, part)
