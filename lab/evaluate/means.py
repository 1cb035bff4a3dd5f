"""Means of scores as the published evaluations take them, and their intervals over subjects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...benchmarks.report import RESAMPLES, mean_interval


@dataclass(frozen=True)
class Score:
    """Score of one picture. value: NaN for a picture that the metric cannot score. pairs: photos in its mean.

    prompt and seed are -1 for a score of all pictures of a subject.
    """

    row: str
    subject: str
    inputs: tuple[int, ...]
    prompt: int
    seed: int
    value: float
    pairs: int = 1
    others: float = float("nan")
    """Mean over the photos that were not an input."""
    copied: bool | None = None
    """None where the subject's photos set no limit: a single one, or all with empty masks."""


def compared(photos: int, inputs: Sequence[int], rule: str) -> list[int]:
    """Indices of the photos that a picture is compared with.

    all: every photo of the subject. input: those that the method was given. others: the rest.
    """
    if rule == "input":
        return [i for i in range(photos) if i in inputs]
    return [i for i in range(photos) if rule == "all" or i not in inputs]


def mean_over(similarities: np.ndarray, photos: Sequence[int]) -> float:
    """Mean of a picture's similarities [photos] over some of them; NaN for none."""
    return float(np.mean(similarities[list(photos)])) if len(photos) else float("nan")


def by_subject(scores: Iterable[Score], order: str) -> dict[str, tuple[float, float]]:
    """Value and weight of each subject, in a protocol's order of means; scores of NaN are left out.

    subjects: pictures, then prompts, then subjects, all of equal weight. images: every picture has equal weight. pairs:
    every pair of a picture and a photo has.
    """
    cells: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        if np.isfinite(score.value):
            cells[score.subject][score.prompt].append((score.value, score.pairs if order == "pairs" else 1.0))
    found = {}
    for subject, prompts in cells.items():
        if order == "subjects":
            found[subject] = (float(np.mean([np.mean([v for v, _ in pairs]) for pairs in prompts.values()])), 1.0)
        else:
            values, weights = np.array([pair for pairs in prompts.values() for pair in pairs]).T
            found[subject] = (float(np.average(values, weights=weights)), float(weights.sum()))
    return found


def interval(subjects: dict[str, tuple[float, float]]) -> list[float]:
    """Mean over subjects with its 95 % bootstrap interval, [mean, low, high]; empty for no subject."""
    if not subjects:
        return []
    values, weights = np.array([subjects[name] for name in sorted(subjects)]).T
    if np.all(weights == weights[0]):
        return mean_interval(values)
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    means = (values[drawn] * weights[drawn]).sum(1) / weights[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return [float(np.average(values, weights=weights)), float(low), float(high)]


@dataclass(frozen=True)
class Difference:
    """Paired difference of two rows: [mean, low, high], the share of subjects that rise, and the number of pairs."""

    interval: list[float]
    rising: float
    pairs: int


def difference(scores: Sequence[Score], others: Sequence[Score], order: str) -> Difference | None:
    """Difference of `scores` from `others` on the pictures of the same subject, prompt and seed; None without any."""
    first, second = _cells(scores), _cells(others)
    both = sorted(first.keys() & second.keys())
    paired = [Score("", *key[:1], (), *key[1:], value=first[key] - second[key]) for key in both]
    subjects = by_subject(paired, order)
    if not subjects:
        return None
    return Difference(interval(subjects), float(np.mean([value > 0 for value, _ in subjects.values()])), len(both))


def _cells(scores: Sequence[Score]) -> dict[tuple[str, int, int], float]:
    """Mean over the inputs of each subject, prompt and seed."""
    values: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for score in scores:
        if np.isfinite(score.value):
            values[score.subject, score.prompt, score.seed].append(score.value)
    return {key: float(np.mean(found)) for key, found in values.items()}
