"""Subjects that only a close look tells apart: what the judge's sense of identity is trained and tested on."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from .drawing import EMBLEMS
from .world import EMBLEM_COLOURS, PATTERNS, SHADES, Scene, Subject, sample_scene, sample_subject

VARIANTS, VIEWS = 4, 2
GROUP = VARIANTS * VIEWS


def look_alike(subject: Subject, rng: Random) -> Subject:
    """A subject that differs in one visible property, so that words are not enough to tell the two apart."""
    changes: list[dict] = [{"pattern": rng.choice([p for p in PATTERNS if p != subject.pattern])}]
    if subject.pattern != "plain":
        changes.append({"shade": rng.choice([s for s in SHADES if s != subject.shade])})
    if subject.emblem is not None:
        changes.append({"emblem_colour": rng.choice([c for c in EMBLEM_COLOURS if c != subject.emblem_colour])})
    changes.append({"emblem": rng.choice([e for e in (*EMBLEMS, None) if e != subject.emblem])})
    return replace(subject, **rng.choice(changes))


def scene_of_group(index: int, seed: int) -> Scene:
    """Scenes come in groups of one subject and three look-alikes, each in two views."""
    group, variant, _ = index // GROUP, index // VIEWS % VARIANTS, index % VIEWS
    rng = Random(f"judge-{seed}-{group}-{variant}")
    subject = sample_subject(Random(f"judge-{seed}-{group}"))
    if variant:
        subject = look_alike(subject, rng)
    return sample_scene(Random(f"judge-{seed}-{index}-view"), subject=subject)
