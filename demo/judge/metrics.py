"""The three numbers of the benchmarks: identity, prompt and layout, from what the judge saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..world.scene import CLASSES, COLORS, PATTERNS, PLACES

if TYPE_CHECKING:
    from .network import Verdict

_NAMES = {"class": CLASSES, "colour": tuple(COLORS), "pattern": PATTERNS, "place": PLACES}


def identity(verdict: Verdict, reference: Verdict) -> np.ndarray:
    """[n] cosine of each picture's subject to the mean direction of the references."""
    mean = reference.embedding.mean(0)
    return verdict.embedding @ (mean / np.linalg.norm(mean))


def prompt_accuracy(verdict: Verdict, wanted: Sequence[Mapping[str, str]]) -> np.ndarray:
    """[n] bool: whether everything that a prompt names is there.

    wanted: for each picture the names by attribute, any of class, color, pattern and place.
    """
    if len(wanted) != len(verdict.class_index):
        raise ValueError(
            f"judge: expected the wanted attributes of {len(verdict.class_index)} pictures, got {len(wanted)}."
        )
    right = [
        all(getattr(verdict, f"{a}_index")[i] == _NAMES[a].index(name) for a, name in w.items())
        for i, w in enumerate(wanted)
    ]
    return np.array(right, dtype=bool)


def layout_spread(verdict: Verdict) -> float:
    """How much the layout varies over the seeds of one prompt: sqrt(var x + var y + var size), in fractions of the
    picture.

    Pictures in which no subject is found are left out; with fewer than two left there is no spread to see, and it is 0.
    """
    found = verdict.size > 0
    if found.sum() < 2:
        return 0.0
    layout = np.concatenate([verdict.center[found], verdict.size[found, None]], 1)
    return float(np.sqrt(layout.var(0).sum()))


def ranking_auc(same: np.ndarray, different: np.ndarray) -> float:
    """Chance that a same-subject score is above a different-subject one; ties count one half (Mann-Whitney)."""
    order = np.sort(different)
    below = np.searchsorted(order, same, side="left")
    upto = np.searchsorted(order, same, side="right")
    return float((below + upto).mean() / (2 * len(order)))
