"""Captions of Tinyland scenes: always class and place, nearly always the extras, color and pattern half of the time."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from .extras import EXTRAS
from .scene import CLASSES, COLORS, PATTERNS, PLACES, Scene

PLACEHOLDER = "sks"
PLACE_PHRASES = {
    "beach": "on the beach",
    "snow": "in the snow",
    "grass": "on the grass",
    "desert": "in the desert",
    "night": "at night",
    "city": "in the city",
    "sea": "in the sea",
    "room": "in a room",
}
EXTRA_PHRASES = {
    "hat": "wearing a hat",
    "umbrella": "under an umbrella",
    "rain": "in the rain",
    "moon": "under a moon",
    "duck": "beside a duck",
    "flower": "beside a flower",
    "balloon": "beside a balloon",
}
WORN = ("hat",)
"""Extras that are named right after the subject."""
EXTRA_NAMED = 0.96
"""Share of the extras that captions name. An extra that no caption named would be drawn unasked."""
_OPENINGS = ("", "", "a photo of", "a picture of", "a drawing of", "there is", "we see")
_FILLER = ("a", "the", "that", "is", "and", "with", "photo", "picture", "of", "in", "on", "at")


def vocabulary() -> list[str]:
    """Words of the world in a fixed order, special tokens first."""
    words = [*CLASSES, *COLORS, *PATTERNS, *PLACES, PLACEHOLDER, *_FILLER]
    words += [w for text in (*_OPENINGS, *PLACE_PHRASES.values()) for w in text.split()]
    words += ["subject", "object", "thing", "scene", "background", "one", "toy", "this", "my", "its", "by", "near"]
    words += [w for text in EXTRA_PHRASES.values() for w in text.split()]
    return ["<start>", "<end>", "<unknown>", *dict.fromkeys(words)]


def neutral_caption(class_name: str, placeholder: str | None = None) -> str:
    """Caption that names only the subject."""
    return f"a photo of a {placeholder} {class_name}" if placeholder else f"a photo of a {class_name}"


def prompt(
    class_name: str,
    place: str,
    color: str | None = None,
    pattern: str | None = None,
    placeholder: str | None = None,
    extras: Sequence[str] = (),
) -> str:
    """Prompt in its plain form: 'a photo of a red striped fish wearing a hat in the sea beside a duck'."""
    words = " ".join(w for w in (placeholder, color, pattern, class_name) if w)
    worn, around = extra_phrases(extras)
    return " ".join(["a photo of a", words, *worn, PLACE_PHRASES[place], *around])


def extra_phrases(extras: Sequence[str]) -> tuple[list[str], list[str]]:
    """Phrases of extras: those that follow the subject, and those that stand beside the place."""
    worn, around = ([EXTRA_PHRASES[name] for name in extras if (name in WORN) is wanted] for wanted in (True, False))
    return worn, around


def named_extras(text: str) -> tuple[str, ...]:
    """Extras that a prompt names."""
    return tuple(name for name in EXTRAS if EXTRA_PHRASES[name] in text)


def caption(scene: Scene, rng: Random, placeholder: str | None = None) -> str:
    """Draws a caption of a scene; with a placeholder it never names color or pattern."""
    subject = scene.subject
    color = subject.color if placeholder is None and rng.random() < 0.5 else None
    pattern = subject.pattern if placeholder is None and rng.random() < 0.5 else None
    where, opening = PLACE_PHRASES[scene.place], rng.choice(_OPENINGS)
    described = [w for w in (color, pattern) if w]
    name = " ".join([placeholder, subject.name] if placeholder else [subject.name])
    style = rng.random()
    worn, around = extra_phrases([extra for extra in scene.extras if rng.random() < EXTRA_NAMED])
    rng.shuffle(around)
    after = [*around, where] if rng.random() < 0.3 else [where, *around]
    if described and style < 0.2:
        parts = [f"{opening} a {name} that is {' and '.join(described)}", *worn, *after]
    elif style < 0.35:
        parts = [f"{where} {opening} a {' '.join([*described, name])}", *worn, *around]
    else:
        rng.shuffle(described)
        parts = [f"{opening} a {' '.join([*described, name])}", *worn, *after]
    return " ".join(" ".join(parts).split())
