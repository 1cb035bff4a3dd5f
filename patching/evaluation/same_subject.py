"""Choice of the pictures that show the same subject (JeDi, arXiv 2407.06187, Algorithm 1, line 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .similarity import cosines

THRESHOLD = 0.85
"""Cosine below which a pair is dropped; the paper's value is not known."""
MOST = 32
"""Pictures that are compared at once: the time to find the largest group grows exponentially."""


@dataclass(frozen=True)
class Group:
    """Pictures of one subject. kept: their indices. similarity: [n, n] of all. reasons: of those dropped, by index."""

    kept: tuple[int, ...]
    similarity: np.ndarray
    reasons: dict[int, str]


def same_subject(embeddings: np.ndarray, threshold: float = THRESHOLD) -> Group:
    """Largest group of which no pair is less similar than `threshold`; of equal ones, the most similar.

    JeDi (arXiv 2407.06187, Algorithm 1, line 5) discards pairs with a CLIP score below a threshold, "as they may not
    contain the same subject". embeddings: [n, channels]. Raises ValueError for more than MOST.
    """
    if len(embeddings) > MOST:
        raise ValueError(f"expected at most {MOST} pictures to compare, got {len(embeddings)}; give fewer at once.")
    similarity = cosines(embeddings, embeddings)
    pairs = similarity >= threshold
    np.fill_diagonal(pairs, False)
    neighbors = [{int(j) for j in np.flatnonzero(row)} for row in pairs]
    groups = _groups(neighbors, set(), set(range(len(embeddings))), set())
    kept = max(groups, key=lambda group: (len(group), _mean(similarity, group), [-i for i in sorted(group)]))
    chosen = tuple(sorted(kept))
    reasons = {}
    for i in range(len(embeddings)):
        if i not in kept and chosen:
            worst = min(chosen, key=lambda j: similarity[i, j])
            reasons[i] = f"{similarity[i, worst]:.3f} similar to picture {worst + 1}, less than {threshold:g}"
    return Group(chosen, similarity, reasons)


def _mean(similarity: np.ndarray, group: set[int]) -> float:
    """Mean similarity of the pairs, rounded so that it does not depend on the order of additions."""
    index = sorted(group)
    part = similarity[np.ix_(index, index)]
    pairs = len(index) * (len(index) - 1)
    return round(float(part.sum() - np.trace(part)) / pairs, 6) if pairs else 0.0


def _groups(neighbors: Sequence[set[int]], group: set[int], more: set[int], seen: set[int]) -> list[set[int]]:
    """Groups of which all pairs are neighbors, and that no further picture joins (Bron-Kerbosch with pivots)."""
    if not more:
        return [] if seen else [group]
    pivot = max(sorted(more | seen), key=lambda i: len(neighbors[i] & more))
    found = []
    for i in sorted(more - neighbors[pivot]):
        found += _groups(neighbors, group | {i}, more & neighbors[i], seen & neighbors[i])
        more, seen = more - {i}, seen | {i}
    return found


def on_white(picture: Image.Image) -> Image.Image:
    """Picture as the filter sees it: white where it is transparent, and square, so that nothing of it is cropped."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side), "white")
    corner = ((side - picture.width) // 2, (side - picture.height) // 2)
    if "A" in picture.getbands():
        square.paste(picture.convert("RGB"), corner, picture.getchannel("A"))
    else:
        square.paste(picture.convert("RGB"), corner)
    return square
