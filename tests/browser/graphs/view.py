"""The part of a graph that the front end shows first when it opens a file of UI format: its place and scale."""

from __future__ import annotations

from typing import Any

from .layout import TITLE, Box

WINDOW = (1600, 900)
"""Pixels of a window in which every graph is readable."""
SCALES = (0.6, 1.0)
"""Least scale at which a graph opens, and the greatest."""
LEFT, TOP, RIGHT, BOTTOM = 70, 100, 20, 20
"""Pixels at the window's edges that bars cover."""


def fits(graph: dict[str, Any]) -> bool:
    """True if the whole width of the graph is in the window at the least scale."""
    return _bounds(graph).width * SCALES[0] <= WINDOW[0] - LEFT - RIGHT


def of(graph: dict[str, Any]) -> dict[str, Any]:
    """The `ds` of a graph: all of it in the middle of the window, or its beginning where it is larger."""
    bounds = _bounds(graph)
    free = WINDOW[0] - LEFT - RIGHT, WINDOW[1] - TOP - BOTTOM
    scale = min(free[0] / bounds.width, free[1] / bounds.height)
    scale = round(min(max(scale, SCALES[0]), SCALES[1]), 3)
    left, top = (
        edge + max(0.0, space - length * scale) / 2
        for edge, space, length in zip((LEFT, TOP), free, (bounds.width, bounds.height), strict=True)
    )
    return {"scale": scale, "offset": [round(left / scale - bounds.x), round(top / scale - bounds.y)]}


def visible(ds: dict[str, Any]) -> Box:
    """The part of a graph that is not covered by bars, in the graph's pixels."""
    x, y = ds["offset"]
    scale = ds["scale"]
    size = WINDOW[0] - LEFT - RIGHT, WINDOW[1] - TOP - BOTTOM
    return Box(LEFT / scale - x, TOP / scale - y, size[0] / scale, size[1] / scale)


def _bounds(graph: dict[str, Any]) -> Box:
    """The smallest rectangle with all nodes and groups."""
    boxes = [Box(x, y - TITLE, w, h + TITLE) for (x, y), (w, h) in ((n["pos"], n["size"]) for n in graph["nodes"])]
    boxes += [Box(*group["bounding"]) for group in graph["groups"]]
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    return Box(left, top, max(box.right for box in boxes) - left, max(box.bottom for box in boxes) - top)
