"""Parts of the patterns in their second color, placed by hand for each class: large, and none cut to a sliver."""

from __future__ import annotations

from .figures import CUBE_FRONT, CUBE_LID, CUBE_SIDE, DEPTH, FRONT
from .shapes import Point, Polygon, box, ellipse

_FAR = 2.0
_DOT = 0.19


def _columns(*edges: tuple[float, float]) -> list[Polygon]:
    return [box(left, -_FAR, right, _FAR) for left, right in edges]


def _rows(*edges: tuple[float, float]) -> list[Polygon]:
    return [box(-_FAR, top, _FAR, bottom) for top, bottom in edges]


def _checks(xs: tuple[float, float], ys: tuple[float, float]) -> list[Polygon]:
    """Nine fields that the given edges separate; those in the middle and at the corners have the second color."""
    columns, rows = ((-_FAR, *edges, _FAR) for edges in (xs, ys))
    return [
        box(columns[i], rows[j], columns[i + 1], rows[j + 1]) for i in range(3) for j in range(3) if (i + j) % 2 == 0
    ]


def _dots(*centers: Point, radius: float = _DOT) -> list[Polygon]:
    return [ellipse(x, y, radius, radius) for x, y in centers]


def _on_lid(x: float, y: float) -> Point:
    """Point of the cube's lid: x along its front edge and y into the depth, from 0 to 1."""
    left, top = CUBE_LID[0]
    return (left + FRONT * x + DEPTH * y, top - DEPTH * y)


def _on_side(x: float, y: float) -> Point:
    """Point of the cube's side: x into the depth and y down, from 0 to 1."""
    left, top = CUBE_SIDE[0]
    return (left + DEPTH * x, top - DEPTH * x + FRONT * y)


def _patch(place, x0: float, x1: float, y0: float, y1: float) -> Polygon:
    return [place(x, y) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]


def _on_front(x: float, y: float) -> Point:
    left, top = CUBE_FRONT[0]
    return (left + FRONT * x, top + FRONT * y)


def _clamped(point: Point) -> Point:
    """Nearest point of the cube's front."""
    (left, top), (right, bottom) = CUBE_FRONT[0], CUBE_FRONT[2]
    return (min(max(point[0], left), right), min(max(point[1], top), bottom))


_THIRDS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))
_CUBE = {
    "striped": [
        *(_patch(_on_front, a, b, 0, 1) for a, b in (_THIRDS[0], _THIRDS[2])),
        *(_patch(_on_lid, a, b, 0, 1) for a, b in (_THIRDS[0], _THIRDS[2])),
    ],
    "dotted": [
        *([_clamped(p) for p in ellipse(*_on_front(x, y), 0.27, 0.27)] for x in (0.1, 0.9) for y in (0.1, 0.9)),
        *([_on_lid(c + 0.155 * x / _DOT, 0.5 + 0.34 * y / _DOT) for x, y in _dots((0, 0))[0]] for c in (0.25, 0.75)),
        *([_on_side(0.5 + 0.34 * x / _DOT, c + 0.155 * y / _DOT) for x, y in _dots((0, 0))[0]] for c in (0.25, 0.75)),
    ],
    "checked": [
        *(_patch(_on_front, *_THIRDS[i], *_THIRDS[j]) for i in range(3) for j in range(3) if (i + j) % 2 == 0),
        _patch(_on_lid, *_THIRDS[1], 0, 1),
        _patch(_on_side, 0, 1, *_THIRDS[1]),
    ],
}
_PLAIN: list[Polygon] = []
PARTS: dict[str, dict[str, list[Polygon]]] = {
    "ball": {
        "striped": _columns((-0.68, -0.3), (0.3, 0.68)),
        "dotted": _dots((0, 0), (0.66, 0), (-0.66, 0), (0.33, -0.6), (-0.33, -0.6), (0.33, 0.6), (-0.33, 0.6)),
        "checked": _checks((-0.33, 0.33), (-0.33, 0.33)),
    },
    "cube": _CUBE,
    "star": {
        "striped": _rows((-0.48, -0.08), (0.38, _FAR)),
        "dotted": _dots((0, 0.08), (0, -0.6), (0.66, -0.16), (-0.66, -0.16), (0.4, 0.66), (-0.4, 0.66), radius=0.17),
        "checked": [
            box(-_FAR, -_FAR, 0, 0.02),
            box(0, 0.02, _FAR, _FAR),
        ],
    },
    "heart": {
        "striped": _columns((-0.68, -0.3), (0.3, 0.68)),
        "dotted": _dots((0, -0.1), (0.62, -0.3), (-0.62, -0.3), (0.26, 0.36), (-0.26, 0.36), radius=0.17),
        "checked": _checks((-0.33, 0.33), (-0.4, 0.08)),
    },
    "house": {
        "striped": _columns((-0.51, -0.23), (0.23, 0.51)),
        "dotted": _dots((0, -0.06), (0.54, 0.12), (-0.54, 0.12), (0.54, 0.66), (-0.54, 0.66)),
        "checked": _checks((-0.3, 0.3), (0.18, 0.58)),
    },
    "fish": {
        "striped": _columns((-0.28, 0.06), (0.42, _FAR)),
        "dotted": _dots((-0.04, 0.16), (-0.24, -0.3), (0.22, -0.36), (0.62, 0.44), (0.26, 0.6), radius=0.17),
        "checked": [box(-_FAR, -_FAR, 0, 0.1), box(0, 0.1, 0.46, _FAR)],
    },
    "mushroom": {
        "striped": _columns((-0.7, -0.32), (0.32, 0.7)),
        "dotted": _dots((0, -0.4), (0.66, -0.04), (-0.66, -0.04), (0.5, -0.6), (-0.5, -0.6), radius=0.17),
        "checked": _checks((-0.34, 0.34), (-0.5, -0.08)),
    },
    "car": {
        "striped": _columns((-0.72, -0.38), (0.38, 0.72)),
        "dotted": [
            *_dots((0.62, 0.05), (-0.62, 0.05), radius=0.14),
            *_dots((0, 0.17), (-0.22, -0.52), radius=0.17),
        ],
        "checked": [box(-_FAR, -_FAR, 0, -0.24), box(-_FAR, -0.24, -0.42, _FAR), box(0, -0.24, 0.42, _FAR)],
    },
}


def parts(name: str, pattern: str) -> list[Polygon]:
    """Polygons of a class's pattern in its second color; they may reach over the body's edge."""
    return PARTS[name].get(pattern, _PLAIN)
