"""Points, polygons and colors that Tinyland is drawn from, and the frame that places them in a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Rgb = tuple[int, int, int]
Point = tuple[float, float]
Polygon = list[Point]

INK: Rgb = (38, 32, 44)
_SHARP = math.radians(12)


def shade(color: Rgb, amount: float) -> Rgb:
    """Darkens (amount < 1) or lightens (amount > 1; white at 2) a color."""
    if amount <= 1:
        return tuple(round(c * amount) for c in color)  # pyright: ignore[reportReturnType]
    return tuple(round(c + (255 - c) * (amount - 1)) for c in color)  # pyright: ignore[reportReturnType]


def ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Polygon:
    """Ellipse, or the part of it between two angles in degrees, clockwise from the right."""
    steps = max(12, int(abs(stop - start) / 6))
    angles = (math.radians(start + (stop - start) * i / steps) for i in range(steps + 1))
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def box(left: float, top: float, right: float, bottom: float) -> Polygon:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def rounded(points: Sequence[Point], radius: float, steps: int = 6) -> Polygon:
    """Polygon whose corners are replaced by curves that start `radius` before each corner."""
    out: Polygon = []
    for i, corner in enumerate(points):
        before, after = _toward(corner, points[i - 1], radius), _toward(corner, points[(i + 1) % len(points)], radius)
        for k in range(steps + 1):
            t = k / steps
            out.append(
                tuple(  # pyright: ignore[reportArgumentType]
                    (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b
                    for a, c, b in zip(before, corner, after, strict=True)
                )
            )
    return out


def moved(points: Sequence[Point], scale: float = 1.0, center: Point = (0.0, 0.0)) -> Polygon:
    """Polygon scaled about the origin, then moved to `center`."""
    return [(center[0] + x * scale, center[1] + y * scale) for x, y in points]


def sharp_corners(polygon: Sequence[Point]) -> list[Point]:
    """Corners where the edge turns by more than 12 degrees."""
    found = []
    for i, (x, y) in enumerate(polygon):
        (ax, ay), (bx, by) = polygon[i - 1], polygon[(i + 1) % len(polygon)]
        turn = math.atan2((x - ax) * (by - y) - (y - ay) * (bx - x), (x - ax) * (bx - x) + (y - ay) * (by - y))
        if abs(turn) > _SHARP:
            found.append((x, y))
    return found


def _toward(start: Point, end: Point, distance: float) -> Point:
    """Point at a distance from `start` toward `end`, at most halfway."""
    share = min(0.5, distance / max(1e-9, math.dist(start, end)))
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)


@dataclass(frozen=True)
class Frame:
    """Placement of a drawing in a picture: center and unit in pixels, tilt in degrees, mirrored or not."""

    x: float
    y: float
    unit: float
    tilt: float = 0.0
    mirrored: bool = False

    def __call__(self, points: Sequence[Point]) -> Polygon:
        """Polygon in pixels. In the unit frame, y points down."""
        cosine, sine = math.cos(math.radians(self.tilt)), math.sin(math.radians(self.tilt))
        flip = -1.0 if self.mirrored else 1.0
        return [
            (
                self.x + self.unit * (flip * x * cosine + y * sine),
                self.y + self.unit * (-flip * x * sine + y * cosine),
            )
            for x, y in points
        ]

    def scaled(self, factor: float) -> Frame:
        """Frame of a picture that is `factor` times as large."""
        return Frame(self.x * factor, self.y * factor, self.unit * factor, self.tilt, self.mirrored)
