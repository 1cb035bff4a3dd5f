"""Cutting the subject out of a picture before it is embedded, and the place of a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

FILLS = {"white": 255, "gray": 127, "black": 0}
EMPTY = 0.001
"""Share of the picture below which a mask counts as empty."""


@dataclass(frozen=True)
class CutOut:
    """Treatment of a masked picture: color outside of the mask, and cropping to the box of the mask or not."""

    fill: str = "white"
    crop: bool = False

    def apply(self, picture: Image.Image, mask: np.ndarray) -> Image.Image | None:
        """Picture of the subject alone, or None for an empty mask.

        mask: [height, width] bool, of the picture's size.
        """
        if is_empty(mask):
            return None
        pixels = np.where(mask[..., None], np.asarray(picture.convert("RGB")), np.uint8(FILLS[self.fill]))
        cut = Image.fromarray(pixels)
        if not self.crop:
            return cut
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        return cut.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


def is_empty(mask: np.ndarray) -> bool:
    return bool(mask.mean() < EMPTY)


def center(mask: np.ndarray) -> tuple[float, float] | None:
    """Center of mass (x, y) in fractions of the picture; None for an empty mask."""
    if is_empty(mask):
        return None
    rows, columns = np.nonzero(mask)
    return float((columns.mean() + 0.5) / mask.shape[1]), float((rows.mean() + 0.5) / mask.shape[0])


def read(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Mask [height, width] bool of a grayscale picture, scaled to `size` (width, height)."""
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.NEAREST)) > 127
