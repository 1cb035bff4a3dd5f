"""Subjects and sample sizes of the comparisons of the papers' methods."""

from __future__ import annotations

from ..demo.world.subjects import REPORTED, TUNING, PersonalSubject
from .grid import Grid

__all__ = ["REPORTED", "TUNING", "grid_of"]
PICTURES = 320
"""Pictures per row, which two cores draw for every row of a comparison in one sitting."""
_SEEDS = 4
_PROMPTS = (2, 10)


def grid_of(pictures: int = PICTURES, subjects: tuple[PersonalSubject, ...] = REPORTED) -> Grid:
    """Grid of about so many pictures: with fewer subjects, it has more prompts, and then more seeds."""
    fewest, most = _PROMPTS
    prompts = min(most, max(fewest, pictures // (_SEEDS * len(subjects))))
    return Grid(subjects, prompts, max(_SEEDS, pictures // (prompts * len(subjects))))
