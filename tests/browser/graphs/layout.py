"""Places of a graph's nodes: columns from left to right, nodes of a column below each other, a group around each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = 20
"""Pixels between two nodes, or two groups."""
BORDER = 12
"""Pixels between a group's edge and its nodes."""
TITLE = 34
"""Height of the title of a group or a node."""


@dataclass(frozen=True)
class Box:
    """Left, top, width and height, in the graph's pixels."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """True where both share an area."""
        apart = (
            self.x + self.width <= other.x
            or other.x + other.width <= self.x
            or self.y + self.height <= other.y
            or other.y + other.height <= self.y
        )
        return not apart


def grown(height: float) -> float:
    """Height of a node in Nodes 2.0, at most, by its classic height."""
    return height * 1.05 + 30


def place(
    columns: Mapping[str, Sequence[str]], sizes: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, Box], dict[str, Box]]:
    """Boxes of the nodes by id, and of the columns' groups by title.

    sizes: classic width and height of each node. The place of a node is as high as it may grow, so that nothing
    overlaps in Nodes 2.0 either.
    """
    nodes: dict[str, Box] = {}
    groups: dict[str, Box] = {}
    left = 0.0
    for title, column in columns.items():
        width = max(sizes[name][0] for name in column)
        top = TITLE + BORDER
        for name in column:
            top += TITLE
            nodes[name] = Box(left + BORDER, top, width, sizes[name][1])
            top += grown(sizes[name][1]) + GAP
        groups[title] = Box(left, 0.0, width + 2 * BORDER, top - GAP + BORDER)
        left += width + 2 * BORDER + GAP
    tallest = max(group.height for group in groups.values())
    return nodes, {title: Box(group.x, group.y, group.width, tallest) for title, group in groups.items()}


def place_note(note: str, groups: Mapping[str, Box]) -> Box:
    """A box above the groups, as wide as most of them, for a note."""
    width = 0.7 * max(group.x + group.width for group in groups.values())
    lines = sum(math.ceil(len(line) * 6.5 / width) for line in note.splitlines() if line)
    height = 20 + 16 * lines + 8 * note.count("\n\n")
    return Box(0.0, -grown(height) - GAP, width, height)
