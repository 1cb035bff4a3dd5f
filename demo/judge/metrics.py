"""Metrics of the benchmarks, computed from the judge's verdicts: identity, prompt and layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..world.extras import EXTRAS
from ..world.scene import CLASSES, COLORS, PATTERNS, PLACES

if TYPE_CHECKING:
    from .network import Verdict

_NAMES = {"class": CLASSES, "colour": tuple(COLORS), "pattern": PATTERNS, "place": PLACES}


def identity(verdict: Verdict, reference: Verdict) -> np.ndarray:
    """[n] cosine of each picture's subject to the mean direction of the references."""
    mean = reference.embedding.mean(0)
    return verdict.embedding @ (mean / np.linalg.norm(mean))


def prompt_accuracy(verdict: Verdict, wanted: Sequence[Mapping[str, str | Sequence[str]]]) -> np.ndarray:
    """[n] bool: True if the picture shows everything that its prompt names.

    wanted: for each picture the names by attribute: any of class, `colour`, pattern and place, and a list of extras.
    Extras that are not named may be there. Raises ValueError if the counts differ.
    """
    if len(wanted) != len(verdict.class_index):
        raise ValueError(
            f"judge: expected the wanted attributes of {len(verdict.class_index)} pictures, got {len(wanted)}."
        )
    return np.array([all(_shows(verdict, i, *named) for named in w.items()) for i, w in enumerate(wanted)], dtype=bool)


def _shows(verdict: Verdict, picture: int, attribute: str, name: str | Sequence[str]) -> bool:
    if attribute == "extras":
        return all(verdict.extras[picture, EXTRAS.index(extra)] for extra in name)
    return bool(getattr(verdict, f"{attribute}_index")[picture] == _NAMES[attribute].index(name))


def layout_spread(verdict: Verdict) -> float:
    """Layout variation over the seeds of one prompt: sqrt(var x + var y + var size), in fractions of the picture.

    Pictures without a subject are left out; 0 if fewer than two remain.
    """
    found = verdict.size > 0
    if found.sum() < 2:
        return 0.0
    layout = np.concatenate([verdict.center[found], verdict.size[found, None]], 1)
    return float(np.sqrt(layout.var(0).sum()))


def ranking_auc(same: np.ndarray, different: np.ndarray) -> float:
    """Probability that a same-subject score exceeds a different-subject one; ties count one half (Mann-Whitney)."""
    order = np.sort(different)
    below = np.searchsorted(order, same, side="left")
    upto = np.searchsorted(order, same, side="right")
    return float((below + upto).mean() / (2 * len(order)))
