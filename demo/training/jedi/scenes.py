"""Scenes in sets of one subject for the joint model: Tinyland renders the sets that JeDi (arXiv 2407.06187)
synthesizes."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from ...world.scene import PLACES, Scene, Subject, sample_scene, sample_subject
from ...world.subjects import HELD_OUT, SUBJECTS

VIEWS = 4


def resembles(one: Subject, other: Subject) -> bool:
    """True if class, color word, pattern and emblem are equal; tint, shade and the emblem's color may differ."""
    return (one.name, one.color, one.pattern, one.emblem) == (other.name, other.color, other.pattern, other.emblem)


@lru_cache(maxsize=64)
def subject_of_set(number: int, seed: int) -> Subject:
    """Draws a random subject that resembles none of SUBJECTS and HELD_OUT, so that training sees no named subject."""
    rng = Random(f"joint-{seed}-{number}")
    while True:
        subject = sample_subject(rng)
        if not any(resembles(subject, named.subject) for named in (*SUBJECTS.values(), *HELD_OUT.values())):
            return subject


def scene_of_set(index: int, seed: int) -> Scene:
    """Scene number `index`: VIEWS consecutive scenes show one subject, each in another place and pose."""
    number, view = divmod(index, VIEWS)
    places = Random(f"joint-{seed}-{number}-places").sample(PLACES, VIEWS)
    return sample_scene(Random(f"joint-{seed}-{index}-view"), subject_of_set(number, seed), places[view])
