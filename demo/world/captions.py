"""Captions of Tinyland scenes: always class and place, color and pattern half of the time, in varied grammar."""

from __future__ import annotations

from random import Random

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
_OPENINGS = ("", "", "a photo of", "a picture of", "a drawing of", "there is", "we see")
_FILLER = ("a", "the", "that", "is", "and", "with", "photo", "picture", "of", "in", "on", "at")


def vocabulary() -> list[str]:
    """Words of the world in a fixed order, special tokens first."""
    words = [*CLASSES, *COLORS, *PATTERNS, *PLACES, PLACEHOLDER, *_FILLER]
    words += [w for text in (*_OPENINGS, *PLACE_PHRASES.values()) for w in text.split()]
    words += ["subject", "object", "thing", "scene", "background", "one", "toy", "this", "my", "its", "by", "near"]
    return ["<start>", "<end>", "<unknown>", *dict.fromkeys(words)]


def neutral_caption(class_name: str, placeholder: str | None = None) -> str:
    """Caption that names only the subject."""
    return f"a photo of a {placeholder} {class_name}" if placeholder else f"a photo of a {class_name}"


def prompt(
    class_name: str, place: str, color: str | None = None, pattern: str | None = None, placeholder: str | None = None
) -> str:
    """Prompt in its plain form: 'a photo of a red striped fish in the sea'."""
    words = " ".join(w for w in (placeholder, color, pattern, class_name) if w)
    return f"a photo of a {words} {PLACE_PHRASES[place]}"


def caption(scene: Scene, rng: Random, placeholder: str | None = None) -> str:
    """Draws a caption of a scene; with a placeholder it never names color or pattern."""
    subject = scene.subject
    color = subject.color if placeholder is None and rng.random() < 0.5 else None
    pattern = subject.pattern if placeholder is None and rng.random() < 0.5 else None
    where, opening = PLACE_PHRASES[scene.place], rng.choice(_OPENINGS)
    described = [w for w in (color, pattern) if w]
    name = " ".join([placeholder, subject.name] if placeholder else [subject.name])
    style = rng.random()
    if described and style < 0.2:
        text = f"{opening} a {name} that is {' and '.join(described)} {where}"
    elif style < 0.35:
        text = f"{where} {opening} a {' '.join([*described, name])}"
    else:
        rng.shuffle(described)
        text = f"{opening} a {' '.join([*described, name])} {where}"
    return " ".join(text.split())
