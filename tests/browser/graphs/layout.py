"""Places of a graph's nodes: columns from left to right, nodes of a column below each other, a group around each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = 36
"""Pixels between two nodes."""
BORDER = 24
"""Pixels between a group's edge and its nodes."""
TITLE = 34
"""Height of the title of a group or a node."""
GROWTH = 1.25
"""A node's height in Nodes 2.0, as a multiple of its classic height."""


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


def place(
    columns: Mapping[str, Sequence[str]], sizes: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, Box], dict[str, Box]]:
    """Boxes of the nodes by id, and of the columns' groups by title.

    sizes: classic width and height of each node. A box is as high as the node may become, so that nothing overlaps in
    Nodes 2.0 either.
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
            top += sizes[name][1] * GROWTH + GAP
        groups[title] = Box(left, 0.0, width + 2 * BORDER, top - GAP + BORDER)
        left += width + 2 * BORDER + GAP
    tallest = max(group.height for group in groups.values())
    return nodes, {title: Box(group.x, group.y, group.width, tallest) for title, group in groups.items()}
