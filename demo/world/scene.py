"""Tinyland: a procedural world of patterned subjects in simple places, deterministic from a seed.

`sample_scene(rng)` draws a scene description, `render(scene)` turns it into pixels, mask and pose, and
`captions.caption(scene, rng)` describes it in words. No caption names the emblem or the exact tint of a subject, so its
identity is more than its words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from .drawing import draw_subject, shadow
from .extras import (
    COMPANIONS,
    EXTRAS,
    WEATHER,
    draw_companion,
    draw_hat,
    draw_moon,
    draw_rain,
    draw_umbrella,
    overcast,
)
from .figures import EMBLEMS
from .places import draw_place
from .shapes import Frame, Rgb, shade

SIZE = 128
CLASSES = ("ball", "cube", "star", "heart", "house", "fish", "mushroom", "car")
COLORS: dict[str, Rgb] = {
    "red": (214, 40, 44),
    "orange": (246, 138, 28),
    "yellow": (248, 214, 48),
    "green": (48, 150, 62),
    "cyan": (60, 206, 206),
    "blue": (44, 74, 204),
    "purple": (128, 52, 168),
    "pink": (248, 142, 192),
}
PATTERNS = ("plain", "striped", "dotted", "checked")
PLACES = ("beach", "snow", "grass", "desert", "night", "city", "sea", "room")
SHADES = {"light": 1.78, "dark": 0.45}
"""Second color of a pattern, as a shade of the first."""
TINT_SPREAD = 20
"""Largest difference between a subject's tint and its color word's, per channel."""
EMBLEM_COLORS: tuple[Rgb, ...] = ((252, 252, 252), (255, 226, 60), (60, 214, 236), (236, 60, 160))
_CONTRAST = 75.0
"""Smallest RGB distance of an emblem from what it lies on."""
_UMBRELLA_MARGIN = 0.36
SMALLEST = 0.285
"""Half-size of the smallest subject. At SIZE, 0.25 of its units are more than eight pixels."""
ALTERNATIVES = (("hat", "umbrella"), ("moon", "umbrella"), WEATHER, COMPANIONS)
"""Extras of which a scene has one at most: there is no room for two, or the sky is one or the other."""
INDOORS = ("room",)
_PLACE_SUPERSAMPLING = 2
_FILL = 0.92
"""Subject's unit as a fraction of its pose's half-size: the rest is room for its outline and corners."""


@dataclass(frozen=True)
class Subject:
    """Properties of a subject that do not change with the scene: class, color word, exact tint, pattern and emblem."""

    name: str
    color: str
    tint: Rgb
    pattern: str
    shade: str
    emblem: str | None
    emblem_color: Rgb


@dataclass(frozen=True)
class Pose:
    """Placement of a subject: center and half-size as fractions of the image, tilt in degrees, mirrored or not."""

    x: float
    y: float
    size: float
    tilt: float
    mirrored: bool

    def frame(self, size: int) -> Frame:
        """Frame of the subject in a picture of size x size pixels."""
        return Frame(self.x * size, self.y * size, _FILL * self.size * size, self.tilt, self.mirrored)


@dataclass(frozen=True)
class Scene:
    """Subject in a place, and what else is there.

    hat: on the subject; umbrella: over it; rain: behind it; moon: in the sky; companion: one of COMPANIONS, beside it.
    """

    subject: Subject
    pose: Pose
    place: str
    background_seed: int
    hat: bool = False
    umbrella: bool = False
    rain: bool = False
    moon: bool = False
    companion: str | None = None

    def at(self, **changes: float | bool) -> Scene:
        """Copy of the scene with some fields of its pose changed."""
        return replace(self, pose=replace(self.pose, **changes))

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of all that is beside the subject, in the order of EXTRAS."""
        return tuple(name for name in EXTRAS if name == self.companion or getattr(self, name, False))

    def showing(self, extras: tuple[str, ...]) -> Scene:
        """Copy of the scene with exactly these extras, at most one of them a companion."""
        companions = [name for name in extras if name in COMPANIONS]
        if len(companions) > 1 or not set(extras) <= set(EXTRAS):
            raise ValueError(f"expected extras of {', '.join(EXTRAS)}, at most one of them a companion, got {extras}.")
        flags = {name: name in extras for name in EXTRAS if name not in COMPANIONS}
        return replace(self, **flags, companion=companions[0] if companions else None)


@dataclass(frozen=True)
class Render:
    image: np.ndarray
    """[height, width, 3] uint8."""
    mask: np.ndarray
    """[height, width] uint8, 255 where the subject is seen: not under its hat, nor behind its companion."""
    scene: Scene


def sample_subject(rng: Random) -> Subject:
    color = rng.choice(tuple(COLORS))
    tint = tuple(max(0, min(255, c + rng.randint(-TINT_SPREAD, TINT_SPREAD))) for c in COLORS[color])
    emblem = rng.choice((*EMBLEMS, None))
    name, pattern, second = rng.choice(CLASSES), rng.choice(PATTERNS), rng.choice(tuple(SHADES))
    return Subject(
        name=name,
        color=color,
        tint=tint,  # pyright: ignore[reportArgumentType]
        pattern=pattern,
        shade=second,
        emblem=emblem,
        emblem_color=rng.choice(emblem_colors(tint, pattern, second)),  # pyright: ignore[reportArgumentType]
    )


def emblem_colors(tint: Rgb, pattern: str, second: str) -> tuple[Rgb, ...]:
    """Colors in which an emblem stands out from a subject."""
    around = (tint, shade(tint, SHADES[second])) if pattern != "plain" else (tint,)
    return tuple(c for c in EMBLEM_COLORS if all(math.dist(c, other) >= _CONTRAST for other in around))


def sample_extras(rng: Random, place: str) -> tuple[str, ...]:
    """Draws none, one or two extras that suit a place; half of the draws are empty."""
    if rng.random() < 0.5:
        return ()
    possible = [name for name in EXTRAS if name not in WEATHER or place not in INDOORS]
    first = rng.choice(possible)
    rest = [name for name in possible if name != first and not any({name, first} <= set(kind) for kind in ALTERNATIVES)]
    return (first, rng.choice(rest)) if rng.random() < 0.4 else (first,)


def sample_pose(rng: Random, extras: tuple[str, ...] = ()) -> Pose:
    """Draws a pose on the ground; extras make the subject smaller, lower and leave them room."""
    size = rng.uniform(0.3, 0.36) if not extras else rng.uniform(SMALLEST, 0.31)
    margin = _FILL * size + 0.02
    x = rng.uniform(margin, 1 - margin)
    if set(extras) & set(COMPANIONS):
        x = rng.choice((margin, 1 - margin)) + rng.uniform(-0.02, 0.04) * (1 if rng.random() < 0.5 else -1)
    if "umbrella" in extras:
        x = min(max(x, _UMBRELLA_MARGIN), 1 - _UMBRELLA_MARGIN)
    low, high = (0.9, 0.97) if set(extras) & {"hat", "umbrella", "moon"} else (0.78, 0.97)
    return Pose(
        x=x,
        y=rng.uniform(low, high) - _FILL * size,
        size=size,
        tilt=rng.uniform(-18, 18),
        mirrored=rng.random() < 0.5,
    )


def sample_scene(rng: Random, subject: Subject | None = None, place: str | None = None, extras: bool = True) -> Scene:
    """Draws a scene; extras: False for the subject alone."""
    subject, place = subject or sample_subject(rng), place or rng.choice(PLACES)
    shown = sample_extras(rng, place) if extras else ()
    return Scene(subject, sample_pose(rng, shown), place, background_seed=rng.getrandbits(32)).showing(shown)


def render(scene: Scene, size: int = SIZE) -> Render:
    """Renders pixels and subject mask of a scene; the same scene always gives the same bytes."""
    rng, frame, s = Random(scene.background_seed), scene.pose.frame(size), scene.subject
    place = draw_place(scene.place, rng, size * _PLACE_SUPERSAMPLING).reduce(_PLACE_SUPERSAMPLING)
    picture = np.asarray(place, np.float32)
    subject = draw_subject(
        frame, size, s.name, s.pattern, s.tint, shade(s.tint, SHADES[s.shade]), s.emblem, s.emblem_color
    )
    mask, covers = subject.alpha[..., 0], []
    if scene.hat:
        covers.append(draw_hat(frame, size, s.name))
    if scene.rain:
        picture = draw_rain(rng, size).over(overcast(picture))
    if scene.moon:
        picture = draw_moon(frame, size).over(picture)
    if scene.umbrella:
        shown = np.maximum(mask, covers[0].alpha[..., 0]) if covers else mask
        picture = draw_umbrella(frame, size, int(np.argmax((shown > 0.5).any(1)))).over(picture)
    picture = subject.over(picture * shadow(mask))
    if scene.companion:
        companion, stands = draw_companion(scene.companion, frame, size)
        picture = picture * shadow(companion.alpha[..., 0]) if stands else picture
        covers.append(companion)
    for cover in covers:
        picture, mask = cover.over(picture), mask * (1 - cover.alpha[..., 0])
    image = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    return Render(image, np.round(mask * 255).astype(np.uint8), scene)
