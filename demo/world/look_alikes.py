"""Look-alikes: subjects that differ in one visible detail. The judge's sense of identity is trained and tested on
them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from random import Random

from .figures import EMBLEMS
from .scene import (
    EMBLEM_COLORS,
    PATTERNS,
    SHADES,
    Scene,
    Subject,
    emblem_colors,
    sample_scene,
    sample_subject,
)
from .shapes import Rgb

VARIANTS, VIEWS = 4, 2
GROUP = VARIANTS * VIEWS
TINT_DISTANCE = 28.0
"""Smallest RGB distance at which two tints of one color word count as different; people miss smaller ones."""
_ALIKE = 0.8
"""Resemblance of two subjects that differ in next to nothing. The step to 1 keeps look-alikes apart."""
_UNLIKE_TINTS = 150.0
"""RGB distance from which two tints have nothing in common."""


def look_alike(subject: Subject, rng: Random) -> Subject:
    """Draws a subject of the same class and color word that differs in one visible property."""
    kinds = ["pattern", "emblem", "tint"]
    kinds += ["shade"] if subject.pattern != "plain" else []
    kinds += ["emblem_color"] if subject.emblem is not None else []
    kind = rng.choice(kinds)
    if kind == "tint":
        return replace(subject, tint=_other_tint(subject, rng))
    values = {"pattern": PATTERNS, "emblem": (*EMBLEMS, None), "shade": tuple(SHADES), "emblem_color": EMBLEM_COLORS}[
        kind
    ]
    changed = [replace(subject, **{kind: value}) for value in values if value != getattr(subject, kind)]
    return rng.choice([other for other in changed if visible(other)] or [replace(subject, emblem=None)])


def visible(subject: Subject) -> bool:
    """True if the subject's emblem, if it has one, stands out from what it lies on."""
    return subject.emblem is None or subject.emblem_color in emblem_colors(subject.tint, subject.pattern, subject.shade)


def appearance(subject: Subject) -> Subject:
    """Visible part of a subject: fixes the shade if it has no pattern and the emblem's color if it has no emblem."""
    if subject.pattern == "plain":
        subject = replace(subject, shade=next(iter(SHADES)))
    if subject.emblem is None:
        subject = replace(subject, emblem_color=EMBLEM_COLORS[0])
    return subject


def resemblance(one: Subject, other: Subject) -> float:
    """Similarity of two subjects in class, color, pattern and emblem: 1 for the same subject, at most
    _ALIKE for any other."""
    one, other = appearance(one), appearance(other)
    if one == other:
        return 1.0
    parts = (  # the shares sum to less than 1
        (0.25, one.name == other.name),
        (0.3, max(0.0, 1 - math.dist(one.tint, other.tint) / _UNLIKE_TINTS)),
        (0.2, (one.pattern == other.pattern) * (0.5 + 0.5 * (one.shade == other.shade))),
        (0.24, (one.emblem == other.emblem) * (0.5 + 0.5 * (one.emblem_color == other.emblem_color))),
    )
    return _ALIKE * sum(share * alike for share, alike in parts)


@lru_cache(maxsize=64)
def group_of(group: int, seed: int) -> tuple[Subject, ...]:
    """Draws a subject and its look-alikes; no two of them look the same."""
    rng = Random(f"judge-{seed}-{group}")
    subjects = [sample_subject(rng)]
    while len(subjects) < VARIANTS:
        other = look_alike(subjects[0], rng)
        if all(_tell_apart(other, s) for s in subjects):
            subjects.append(other)
    return tuple(subjects)


def scene_of_group(index: int, seed: int) -> Scene:
    """Scene number `index`: groups of one subject and three look-alikes, two views each."""
    subject = group_of(index // GROUP, seed)[index // VIEWS % VARIANTS]
    return sample_scene(Random(f"judge-{seed}-{index}-view"), subject=subject)


def _other_tint(subject: Subject, rng: Random) -> Rgb:
    while True:
        other = sample_subject(rng)
        if other.color == subject.color and math.dist(other.tint, subject.tint) >= TINT_DISTANCE:
            return other.tint


def _tell_apart(one: Subject, other: Subject) -> bool:
    one, other = appearance(one), appearance(other)
    return replace(one, tint=other.tint) != other or math.dist(one.tint, other.tint) >= TINT_DISTANCE
