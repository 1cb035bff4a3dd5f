"""Outlines of the eight classes, and what of them has a color of its own.

All are polygons in a unit frame, [-1, 1] x [-1, 1] with y pointing down. At the smallest size that is drawn, 0.25
units are eight pixels, one pixel of the autoencoder's latent: no part is narrower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .shapes import INK, Point, Polygon, Rgb, box, ellipse, rounded

_WOOD: Rgb = (126, 78, 52)
_CREAM: Rgb = (250, 238, 214)
_GLASS: Rgb = (206, 238, 252)
_CHROME: Rgb = (228, 228, 232)


@dataclass(frozen=True)
class Figure:
    """Class as it is drawn: its bodies carry color and pattern, its fins the color alone, its details
    colors of their own.

    faces: parts of the bodies with the brightness that the light gives them; emblem: center of the emblem;
    top: point that carries a hat, and the hat's size.
    """

    bodies: list[Polygon]
    emblem: Point
    top: Point
    details: list[tuple[Polygon, Rgb]] = field(default_factory=list)
    behind: list[tuple[Polygon, Rgb]] = field(default_factory=list)
    fins: list[Polygon] = field(default_factory=list)
    faces: list[tuple[Polygon, float]] = field(default_factory=list)


def _heart() -> Polygon:
    points = []
    for i in range(72):
        t = 2 * math.pi * i / 72
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 16.0, -(y + 2.5) / 15.0))
    return points


def _star() -> Polygon:
    corners = []
    for i in range(10):
        r = 1.16 if i % 2 == 0 else 0.62
        a = math.pi * i / 5 - math.pi / 2
        corners.append((r * math.cos(a), r * math.sin(a) + 0.08))
    return rounded(corners, 0.18)


FRONT, DEPTH = 1.36, 0.56
"""Side of the cube's front face, and how far its other two faces reach back."""
_LEFT, _TOP = -0.96, -0.4
_RIGHT, _BOTTOM = _LEFT + FRONT, _TOP + FRONT
CUBE_FRONT = box(_LEFT, _TOP, _RIGHT, _BOTTOM)
CUBE_LID = [(_LEFT, _TOP), (_LEFT + DEPTH, _TOP - DEPTH), (_RIGHT + DEPTH, _TOP - DEPTH), (_RIGHT, _TOP)]
CUBE_SIDE = [(_RIGHT, _TOP), (_RIGHT + DEPTH, _TOP - DEPTH), (_RIGHT + DEPTH, _BOTTOM - DEPTH), (_RIGHT, _BOTTOM)]

_ROOF = [(0.0, -1.06), (1.08, -0.14), (0.9, 0.1), (0.0, -0.68), (-0.9, 0.1), (-1.08, -0.14)]

EMBLEM_SIZE = 0.38
_ARM = 0.46
FIGURES: dict[str, Figure] = {
    "ball": Figure(bodies=[ellipse(0, 0, 0.97, 0.97)], emblem=(0, 0), top=(0.0, -0.86)),
    "cube": Figure(
        bodies=[CUBE_FRONT, CUBE_LID, CUBE_SIDE],
        emblem=((_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2),
        top=(0.0, _TOP - DEPTH / 2),
        faces=[(CUBE_LID, 1.3), (CUBE_SIDE, 0.66)],
    ),
    "star": Figure(bodies=[_star()], emblem=(0, 0.08), top=(0.0, -0.8)),
    "heart": Figure(bodies=[_heart()], emblem=(0, -0.1), top=(-0.46, -0.8)),
    "house": Figure(
        bodies=[[(0.0, -0.9), (0.8, -0.2), (0.8, 0.95), (-0.8, 0.95), (-0.8, -0.2)]],
        emblem=(0.0, -0.06),
        top=(0.0, -0.9),
        details=[(box(-0.25, 0.46, 0.25, 0.95), _WOOD), (_ROOF, _WOOD)],
        behind=[(box(0.42, -0.98, 0.74, -0.3), _WOOD)],
    ),
    "fish": Figure(
        fins=[
            rounded([(-0.4, 0.1), (-1.08, -0.6), (-0.94, 0.1), (-1.08, 0.8)], 0.12),
            rounded([(-0.36, -0.3), (-0.3, -1.08), (0.2, -0.96), (0.72, -0.3)], 0.26),
        ],
        bodies=[ellipse(0.21, 0.1, 0.83, 0.72)],
        emblem=(-0.04, 0.16),
        top=(0.14, -0.8),
        details=[(ellipse(0.64, -0.06, 0.21, 0.21), (252, 252, 252)), (ellipse(0.69, -0.06, 0.125, 0.125), INK)],
    ),
    "mushroom": Figure(
        bodies=[rounded([*ellipse(0, 0.1, 1.02, 1.08, 180, 360), (1.0, 0.26), (-1.0, 0.26)], 0.1)],
        emblem=(0.0, -0.4),
        top=(0.0, -0.88),
        behind=[
            (rounded([(-0.34, 0.1), (0.34, 0.1), (0.36, 0.5), (0.5, 0.95), (-0.5, 0.95), (-0.36, 0.5)], 0.2), _CREAM)
        ],
    ),
    "car": Figure(
        bodies=[
            rounded(
                [
                    (-1.06, 0.6),
                    (-1.06, -0.04),
                    (-0.7, -0.14),
                    (-0.46, -0.86),
                    (0.46, -0.86),
                    (0.72, -0.14),
                    (1.06, -0.02),
                    (1.06, 0.6),
                ],
                0.16,
            )
        ],
        emblem=(0.0, 0.17),
        top=(0.0, -0.76),
        details=[
            (ellipse(-0.64, 0.6, 0.35, 0.35), INK),
            (ellipse(-0.64, 0.6, 0.15, 0.15), _CHROME),
            (ellipse(0.64, 0.6, 0.35, 0.35), INK),
            (ellipse(0.64, 0.6, 0.15, 0.15), _CHROME),
            (rounded([(0.04, -0.28), (0.04, -0.68), (0.34, -0.68), (0.48, -0.28)], 0.08), _GLASS),
        ],
    ),
}
EMBLEMS: dict[str, Polygon] = {
    "disc": ellipse(0, 0, 1, 1),
    "square": box(-0.92, -0.92, 0.92, 0.92),
    "triangle": [(0, -1.12), (1.12, 0.84), (-1.12, 0.84)],
    "cross": [
        (-_ARM, -1.06),
        (_ARM, -1.06),
        (_ARM, -_ARM),
        (1.06, -_ARM),
        (1.06, _ARM),
        (_ARM, _ARM),
        (_ARM, 1.06),
        (-_ARM, 1.06),
        (-_ARM, _ARM),
        (-1.06, _ARM),
        (-1.06, -_ARM),
        (-_ARM, -_ARM),
    ],
    "ring": ellipse(0, 0, 1.16, 1.16),
}
EMBLEM_HOLE = ellipse(0, 0, 0.36, 0.36)
"""Dark middle of the ring."""
