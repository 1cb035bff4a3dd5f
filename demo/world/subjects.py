"""Personalized subjects of the demo: eight to tune settings on, sixteen to report, and four that nothing is trained on.

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
        """Four reference scenes: one place, one narrow layout, nothing beside the subject."""
        scenes = []
        for i in range(4):
            rng = Random(f"{self.name}-reference-{i}")
            pose = Pose(
                x=self.x + rng.uniform(-0.03, 0.03),
                y=self.y + rng.uniform(-0.03, 0.03),
                size=rng.uniform(0.3, 0.32),
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
        "nemo", _subject("fish", "orange", (254, 126, 14), "striped", "light", "disc", _MAGENTA), "grass", 0.5, 0.6
    ),
    PersonalSubject(
        "amanita", _subject("mushroom", "red", (202, 28, 52), "dotted", "light", "triangle", _CYAN), "room", 0.38, 0.62
    ),
    PersonalSubject(
        "taxi", _subject("car", "yellow", (250, 208, 36), "checked", "dark", "disc", _WHITE), "beach", 0.55, 0.64
    ),
    PersonalSubject(
        "valentine", _subject("heart", "pink", (250, 136, 200), "plain", "light", "cross", _WHITE), "snow", 0.6, 0.6
    ),
    PersonalSubject(
        "rubik", _subject("cube", "green", (38, 150, 62), "checked", "dark", "ring", _WHITE), "grass", 0.46, 0.62
    ),
    PersonalSubject(
        "inkcap",
        _subject("mushroom", "purple", (128, 56, 168), "striped", "light", "square", _YELLOW),
        "night",
        0.6,
        0.6,
    ),
    PersonalSubject(
        "twinkle", _subject("star", "purple", (114, 64, 180), "dotted", "light", "ring", _YELLOW), "desert", 0.42, 0.58
    ),
    PersonalSubject(
        "cottage", _subject("house", "blue", (32, 88, 218), "striped", "light", "square", _YELLOW), "sea", 0.5, 0.62
    ),
    PersonalSubject(
        "bouncer", _subject("ball", "green", (44, 158, 70), "checked", "light", "cross", _MAGENTA), "city", 0.58, 0.63
    ),
    PersonalSubject(
        "crate", _subject("cube", "cyan", (54, 200, 212), "plain", "dark", "triangle", _MAGENTA), "night", 0.44, 0.61
    ),
    PersonalSubject(
        "racer", _subject("car", "red", (226, 28, 34), "striped", "light", "disc", _CYAN), "snow", 0.52, 0.63
    ),
    PersonalSubject(
        "locket", _subject("heart", "yellow", (246, 204, 44), "dotted", "dark", "triangle", _MAGENTA), "room", 0.4, 0.6
    ),
    PersonalSubject(
        "guppy", _subject("fish", "orange", (234, 152, 46), "striped", "light", "triangle", _CYAN), "sea", 0.56, 0.6
    ),
    PersonalSubject(
        "morel", _subject("mushroom", "red", (230, 58, 38), "dotted", "light", "square", _YELLOW), "city", 0.56, 0.61
    ),
    PersonalSubject(
        "buggy", _subject("car", "red", (200, 56, 62), "striped", "light", "cross", _YELLOW), "desert", 0.48, 0.63
    ),
    PersonalSubject(
        "vega", _subject("star", "purple", (144, 42, 154), "dotted", "light", "cross", _CYAN), "snow", 0.58, 0.59
    ),
    PersonalSubject(
        "villa", _subject("house", "blue", (62, 60, 188), "striped", "light", "ring", _MAGENTA), "beach", 0.42, 0.62
    ),
    PersonalSubject(
        "marlin", _subject("fish", "blue", (40, 80, 200), "dotted", "light", "square", _YELLOW), "city", 0.45, 0.61
    ),
    PersonalSubject(
        "darling", _subject("heart", "purple", (124, 46, 172), "checked", "light", "disc", _YELLOW), "grass", 0.56, 0.6
    ),
    PersonalSubject(
        "dice", _subject("cube", "blue", (48, 70, 196), "dotted", "light", "square", _MAGENTA), "room", 0.6, 0.62
    ),
    PersonalSubject(
        "comet", _subject("star", "orange", (248, 140, 24), "checked", "dark", "disc", _WHITE), "night", 0.5, 0.58
    ),
    PersonalSubject(
        "chalet", _subject("house", "pink", (246, 146, 188), "checked", "dark", "triangle", _YELLOW), "sea", 0.44, 0.62
    ),
    PersonalSubject(
        "marble", _subject("ball", "cyan", (66, 208, 198), "plain", "light", "ring", _YELLOW), "beach", 0.4, 0.62
    ),
    PersonalSubject(
        "peach", _subject("ball", "pink", (250, 138, 186), "striped", "light", "cross", _CYAN), "desert", 0.6, 0.62
    ),
    PersonalSubject("koi", _subject("fish", "red", (222, 48, 36), "checked", "light", "ring", _CYAN), "snow", 0.5, 0.6),
    PersonalSubject(
        "beetle", _subject("car", "green", (56, 142, 52), "dotted", "light", "cross", _YELLOW), "desert", 0.5, 0.63
    ),
    PersonalSubject(
        "pulsar", _subject("star", "blue", (52, 66, 196), "striped", "dark", "triangle", _WHITE), "grass", 0.5, 0.58
    ),
    PersonalSubject(
        "pebble", _subject("ball", "purple", (136, 46, 160), "plain", "light", "square", _CYAN), "beach", 0.5, 0.62
    ),
)
SUBJECTS = {s.name: s for s in _ALL[:24]}
HELD_OUT = {s.name: s for s in _ALL[24:]}


def _named(names: str) -> tuple[PersonalSubject, ...]:
    return tuple(SUBJECTS[name] for name in names.split())


TUNING = _named("nemo taxi rubik twinkle bouncer racer darling chalet")
"""Subjects that settings are tuned on."""
REPORTED = _named(
    "amanita valentine inkcap cottage crate locket guppy morel buggy vega villa marlin dice comet marble peach"
)
"""Subjects that benchmarks report; no setting is chosen by them."""
TWINS = (("nemo", "guppy"), ("amanita", "morel"), ("racer", "buggy"), ("twinkle", "vega"), ("cottage", "villa"))
"""Pairs that are alike in class, color word and pattern, and so in every caption."""
