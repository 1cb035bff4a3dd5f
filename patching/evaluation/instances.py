"""Instances of one thing in a picture, cut out by their masks (JeDi, arXiv 2407.06187, Algorithm 1, line 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.ndimage

LEAST_AREA, MOST_AREA = 0.01, 0.8
"""Share of the picture that an instance covers, least and most; the paper names neither."""
HOLES = 0.01
"""Holes of at most this share of the instance are filled; larger ones belong to its shape, as a mug's handle."""
OVERLAP = 0.5
"""Intersection over union above which two masks show the same instance."""
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Instance:
    """Instance of a picture. alpha: [height, width] in 0..1, of the whole picture. dropped: reason, or empty."""

    alpha: np.ndarray
    dropped: str = ""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels."""
        rows, columns = np.flatnonzero(self.alpha.any(1)), np.flatnonzero(self.alpha.any(0))
        if not len(rows):
            return 0, 0, self.alpha.shape[1], self.alpha.shape[0]
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """Instance alone, [height, width, 4] uint8, cropped to its box. picture: [height, width, 3] uint8."""
        left, top, right, bottom = self.box
        alpha = (self.alpha[top:bottom, left:right, None] * 255).round().astype(np.uint8)
        return np.concatenate([picture[top:bottom, left:right, :3], alpha], 2)


def find(
    masks: np.ndarray,
    parts: bool = False,
    least: float = LEAST_AREA,
    most: float = MOST_AREA,
    whole: bool = True,
) -> list[Instance]:
    """Instances of a picture's masks, in their order; those that cannot be used have a reason.

    masks: [n, height, width] in 0..1. parts: each connected part of a mask is an instance, in place of its largest
    part. least, most: shares of the picture's area. whole: an instance at the picture's border, which may go on beyond
    it, is dropped. Of two masks of one instance the larger stays.
    """
    found = [_checked(alpha, least, most, whole) for mask in masks for alpha in _parts(mask, parts)]
    areas = [float((one.alpha > 0.5).sum()) for one in found]
    for i, one in enumerate(found):
        if not one.dropped and any(_covers(found, areas, j, i) for j in range(len(found)) if j != i):
            found[i] = replace(one, dropped="another mask shows the same instance")
    return found


def _parts(mask: np.ndarray, parts: bool) -> list[np.ndarray]:
    """Alpha of a mask's connected parts, or of the largest one; small holes are filled."""
    values = np.asarray(mask, np.float32)
    labels, count = _labeled(values > 0.5, _EIGHT)
    if not count:
        return [] if parts else [np.zeros_like(values)]
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    chosen = range(1, count + 1) if parts else [int(sizes.argmax())]
    boxes: Any = scipy.ndimage.find_objects(labels)
    found = []
    for number in chosen:
        # One pixel around the part is enough for its soft edge, and a mask may have hundreds of small parts.
        window = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in boxes[number - 1])
        alpha = np.zeros_like(values)
        alpha[window] = _alpha(values[window], labels[window] == number, float(sizes[number]))
        found.append(alpha)
    return found


def _alpha(values: np.ndarray, part: np.ndarray, size: float) -> np.ndarray:
    """Alpha of one part with its soft edge."""
    filled = np.asarray(scipy.ndimage.binary_fill_holes(part))
    labels, count = _labeled(filled & ~part)
    small = np.bincount(labels.ravel(), minlength=count + 1) <= HOLES * size
    small[0] = False
    near = scipy.ndimage.binary_dilation(part, _EIGHT)
    return np.where(small[labels], 1.0, np.where(near, values, 0.0)).astype(np.float32)


def _labeled(mask: np.ndarray, structure: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Connected parts of a mask, numbered from 1, and their number."""
    labels: Any = np.zeros(mask.shape, np.int32)
    count: Any = scipy.ndimage.label(mask, structure, labels)  # without annotations of its own
    return labels, int(count)


def _checked(alpha: np.ndarray, least: float, most: float, whole: bool) -> Instance:
    inside = alpha > 0.5
    share = float(inside.mean())
    if share < least:
        return Instance(alpha, f"covers {share:.1%} of the picture, less than {least:.1%}")
    if not share:
        return Instance(alpha, "its mask is empty")
    if share > most:
        return Instance(alpha, f"covers {share:.1%} of the picture, more than {most:.1%}")
    if whole and (inside[[0, -1]].any() or inside[:, [0, -1]].any()):
        return Instance(alpha, "touches the border of the picture")
    return Instance(alpha)


def _covers(found: Sequence[Instance], areas: Sequence[float], other: int, own: int) -> bool:
    """True if `other` is usable, larger than `own` (or equal and earlier), and shows the same instance."""
    if found[other].dropped or (areas[other], -other) < (areas[own], -own):
        return False
    first, second = found[other].alpha > 0.5, found[own].alpha > 0.5
    both = float((first & second).sum())
    return both / (areas[other] + areas[own] - both) > OVERLAP
