"""Things that a scene may show beside its subject: a hat, an umbrella, rain, a moon, and a second small thing."""

from __future__ import annotations

from random import Random

import numpy as np

from .drawing import SUPERSAMPLING, Layer, Pen, lit
from .figures import FIGURES
from .shapes import INK, Frame, Polygon, Rgb, box, ellipse, rounded

COMPANIONS = ("duck", "flower", "balloon")
EXTRAS = ("hat", "umbrella", "rain", "moon", *COMPANIONS)
WEATHER = ("rain", "moon")
"""Extras that are seen under the open sky alone."""
Part = tuple[Polygon, Rgb]
_RED: Rgb = (226, 58, 74)
_CREAM: Rgb = (252, 244, 226)
_YELLOW: Rgb = (255, 214, 64)
_ORANGE: Rgb = (244, 134, 40)
_GREEN: Rgb = (56, 150, 70)
_BLUE: Rgb = (70, 112, 228)
_WOOD: Rgb = (126, 82, 58)
_FELT: Rgb = (98, 80, 132)

HAT: list[Part] = [
    (rounded([(-0.44, 0.1), (-0.4, -0.86), (0.4, -0.86), (0.44, 0.1)], 0.08), _FELT),
    (box(-0.43, -0.46, 0.43, 0.02), _RED),
    (rounded([(-0.84, -0.1), (0.84, -0.1), (0.84, 0.25), (-0.84, 0.25)], 0.12), _FELT),
]
SMALL_THINGS: dict[str, list[Part]] = {
    "duck": [
        (
            rounded([(-1.1, -0.1), (-0.5, 0.16), (0.6, 0.1), (0.8, 0.6), (0.4, 1.0), (-0.5, 1.0), (-0.9, 0.6)], 0.3),
            _YELLOW,
        ),
        (rounded([(0.5, -0.78), (1.5, -0.62), (1.5, -0.1), (0.5, 0.02)], 0.12), _ORANGE),
        (ellipse(0.14, -0.44, 0.7, 0.66), _YELLOW),
        (ellipse(0.36, -0.56, 0.2, 0.2), INK),
    ],
    "flower": [
        (box(-0.29, -0.2, 0.29, 1.0), _GREEN),
        *(
            (ellipse(0.54 * x, -0.42 + 0.54 * y, 0.43, 0.43), (250, 128, 180))
            for x, y in ((0.0, -1.0), (0.95, -0.31), (0.59, 0.81), (-0.59, 0.81), (-0.95, -0.31))
        ),
        (ellipse(0.0, -0.42, 0.34, 0.34), _YELLOW),
    ],
    "balloon": [
        (box(-0.34, 0.5, 0.34, 1.44), _WOOD),
        (rounded([*ellipse(0, -0.24, 1.0, 0.94, 150, 390), (0.34, 0.86), (-0.34, 0.86)], 0.1), _BLUE),
        (ellipse(0.0, -0.2, 0.34, 0.96), _YELLOW),
    ],
}
UMBRELLA, MOON, RAINDROP, COMPANION = 0.35, 0.12, 0.074, 0.145
"""Units of the extras, in fractions of the picture. A hat has its subject's."""
LINE = 0.018
DROP = rounded([(0.0, -1.3), (0.62, 0.1), (0.5, 0.75), (0.0, 0.95), (-0.5, 0.75), (-0.62, 0.1)], 0.3)


def umbrella(length: float) -> list[Part]:
    """Four panels over a stick; the unit is half of the width."""
    meridians = [ellipse(0, 0, abs(x), 0.74, 270, 360 if x > 0 else 180) for x in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    panels = [
        ([*left[::-1], *right, *hem], color)
        for left, right, hem, color in zip(
            meridians[:-1],
            meridians[1:],
            (ellipse(x, 0, 0.25, 0.12, 360, 180) for x in (-0.75, -0.25, 0.25, 0.75)),
            (_RED, _CREAM, _RED, _CREAM),
            strict=True,
        )
    ]
    return [(box(-0.125, -0.1, 0.125, length), _WOOD), *panels]


def crescent() -> Polygon:
    outer = ellipse(0, 0, 1, 1, 60, 300)
    inner = ellipse(0.62, 0, 0.876, 0.876, 278, 82)
    return [*outer, *inner]


def draw_parts(frame: Frame, size: int, parts: list[Part]) -> Layer:
    """Layer of outlined parts, in light."""
    pen, large = Pen(size, INK), frame.scaled(SUPERSAMPLING)
    for polygon, color in parts:
        pen.fill(large(polygon), color, LINE)
    return lit(pen.layer(), frame)


def draw_hat(subject: Frame, size: int, name: str) -> Layer:
    """Hat on a subject, tilted with it."""
    (place,) = subject([FIGURES[name].top])
    return draw_parts(Frame(*place, subject.unit, subject.tilt, subject.mirrored), size, HAT)


def draw_umbrella(subject: Frame, size: int, top: float) -> Layer:
    """Umbrella above a subject, or a hat, whose highest pixel is in row `top`; both hide the lower end of its stick."""
    unit = UMBRELLA * size
    bottom = max(top - 0.03 * size, 0.27 * size)
    return draw_parts(Frame(subject.x, bottom, unit), size, umbrella((subject.y - bottom) / unit))


def draw_moon(subject: Frame, size: int) -> Layer:
    """Crescent in the half of the sky that the subject is not in."""
    x = 0.74 if subject.x < size / 2 else 0.26
    return draw_parts(Frame(x * size, 0.15 * size, MOON * size), size, [(crescent(), (255, 244, 176))])


def draw_rain(rng: Random, size: int) -> Layer:
    """Falling drops, all over the picture."""
    pen, unit = Pen(size, (52, 96, 168)), RAINDROP * size
    shift = rng.random()
    for row in range(4):
        for column in range(-1, 5):
            x = (column + shift + 0.5 * (row % 2) + rng.uniform(-0.04, 0.04)) / 4
            y = (row + 0.5 + rng.uniform(-0.04, 0.04)) / 4
            place = Frame(x * size, y * size, unit, tilt=-14).scaled(SUPERSAMPLING)
            pen.fill(place(DROP), (150, 208, 255), LINE)
    return pen.layer()


def overcast(picture: np.ndarray) -> np.ndarray:
    """Picture [height, width, 3] under a sky of rain."""
    return picture * 0.62 + picture.mean(-1, keepdims=True) * 0.2


def draw_companion(kind: str, subject: Frame, size: int) -> tuple[Layer, bool]:
    """Small thing on the roomier side of the subject, and True if it stands on the ground."""
    unit, reach = COMPANION * size, subject.unit + 0.15 * size
    right = subject.x < size / 2
    x = min(max(subject.x + (reach if right else -reach), 0.22 * size), 0.78 * size)
    floats = kind == "balloon"
    y = subject.y - 0.45 * subject.unit if floats else min(subject.y + subject.unit - 0.7 * unit, 0.96 * size - unit)
    return draw_parts(Frame(x, y, unit, mirrored=not right), size, SMALL_THINGS[kind]), not floats
