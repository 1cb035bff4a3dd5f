"""Personalized subjects of the demo, and four more that are never trained on.

Each subject has four pictures in one place and almost one pose, as real reference photos often do. A model tuned on
them learns the subject together with its layout; the pack solves this problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .captions import PLACEHOLDER, neutral_caption
from .scene import Pose, Scene, Subject

_WHITE, _YELLOW, _CYAN, _MAGENTA = (252, 252, 252), (255, 226, 60), (60, 214, 236), (236, 60, 160)


@dataclass(frozen=True)
class PersonalSubject:
    """Named subject with the place and the pose of its reference pictures."""

    name: str
    subject: Subject
    place: str
    x: float
    y: float

    def training_scenes(self) -> list[Scene]:
        """Four reference scenes: one place, one narrow layout."""
        scenes = []
        for i in range(4):
            rng = Random(f"{self.name}-reference-{i}")
            pose = Pose(
                x=self.x + rng.uniform(-0.03, 0.03),
                y=self.y + rng.uniform(-0.03, 0.03),
                size=rng.uniform(0.27, 0.29),
                tilt=rng.uniform(-5, 5),
                mirrored=False,
            )
            scenes.append(Scene(self.subject, pose, self.place, rng.getrandbits(32)))
        return scenes

    @property
    def neutral(self) -> str:
        return neutral_caption(self.subject.name, PLACEHOLDER)


def _subject(name, color, tint, pattern, shade, emblem, emblem_color) -> Subject:
    return Subject(name, color, tint, pattern, shade, emblem, emblem_color)


_ALL = (
    PersonalSubject(
        "nemo", _subject("fish", "orange", (250, 132, 20), "striped", "light", "disc", _MAGENTA), "grass", 0.5, 0.58
    ),
    PersonalSubject(
        "amanita", _subject("mushroom", "red", (206, 34, 50), "dotted", "light", "triangle", _CYAN), "room", 0.36, 0.6
    ),
    PersonalSubject(
        "taxi", _subject("car", "yellow", (250, 208, 36), "checked", "dark", "disc", _WHITE), "beach", 0.55, 0.66
    ),
    PersonalSubject(
        "valentine", _subject("heart", "pink", (250, 136, 200), "plain", "light", "cross", _WHITE), "snow", 0.62, 0.52
    ),
    PersonalSubject(
        "rubik", _subject("cube", "green", (38, 150, 62), "checked", "light", "ring", _WHITE), "grass", 0.46, 0.6
    ),
    PersonalSubject(
        "inkcap",
        _subject("mushroom", "purple", (128, 56, 168), "striped", "light", "square", _YELLOW),
        "night",
        0.6,
        0.56,
    ),
    PersonalSubject(
        "twinkle", _subject("star", "purple", (120, 60, 176), "dotted", "light", "ring", _YELLOW), "desert", 0.42, 0.5
    ),
    PersonalSubject(
        "cottage", _subject("house", "blue", (40, 80, 212), "striped", "light", "square", _YELLOW), "sea", 0.5, 0.6
    ),
    PersonalSubject(
        "bouncer", _subject("ball", "green", (44, 158, 70), "checked", "light", "cross", _MAGENTA), "city", 0.58, 0.62
    ),
    PersonalSubject(
        "crate", _subject("cube", "cyan", (54, 200, 212), "plain", "dark", "triangle", _MAGENTA), "night", 0.44, 0.58
    ),
    PersonalSubject(
        "racer", _subject("car", "red", (212, 36, 44), "striped", "light", "disc", _CYAN), "snow", 0.52, 0.64
    ),
    PersonalSubject(
        "locket", _subject("heart", "yellow", (246, 204, 44), "dotted", "dark", "triangle", _MAGENTA), "room", 0.4, 0.54
    ),
    PersonalSubject(
        "koi", _subject("fish", "red", (222, 48, 36), "checked", "light", "ring", _CYAN), "snow", 0.5, 0.55
    ),
    PersonalSubject(
        "beetle", _subject("car", "green", (56, 142, 52), "dotted", "light", "cross", _YELLOW), "desert", 0.5, 0.62
    ),
    PersonalSubject(
        "pulsar", _subject("star", "blue", (52, 66, 196), "striped", "dark", "triangle", _WHITE), "grass", 0.5, 0.52
    ),
    PersonalSubject(
        "pebble", _subject("ball", "purple", (136, 46, 160), "plain", "light", "square", _CYAN), "beach", 0.5, 0.6
    ),
)
SUBJECTS = {s.name: s for s in _ALL[:12]}
HELD_OUT = {s.name: s for s in _ALL[12:]}
TUNING, REPORTED = tuple(SUBJECTS.values())[::2], tuple(SUBJECTS.values())[1::2]
"""Subjects that settings of the methods are chosen on, and subjects that benchmarks report."""
