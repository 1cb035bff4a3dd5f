"""Places of a graph's nodes: columns from left to right, groups stacked in them, and links led around foreign nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

GAP = 20
"""Pixels between two nodes of a column, or two groups."""
BORDER = 12
"""Pixels between a group's edge and its nodes."""
TITLE = 34
"""Height of the title of a group or a node."""
GUTTER = (70, 110)
"""Least and most pixels between two columns, in which links rise and fall."""
FAR = 600
"""Pixels that a link rises or falls between two columns without a bend."""
WIDTHS = (1980, 2490)
"""Pixels of a graph that opens at 60 % in a window of 1600: as a template, with a margin, and with a stored view."""
LANE = 20
"""Pixels between two links that run side by side over or under the columns."""


@dataclass(frozen=True)
class Box:
    """Left, top, width and height, in the graph's pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y + self.height

    def overlaps(self, other: Box) -> bool:
        """True where both share an area."""
        apart = self.right <= other.x or other.right <= self.x or self.bottom <= other.y or other.bottom <= self.y
        return not apart

    def holds(self, other: Box) -> bool:
        """True where all of another one is inside, but for a pixel."""
        above = self.x <= other.x + 1 and self.y <= other.y + 1
        return above and other.right <= self.right + 1 and other.bottom <= self.bottom + 1


@dataclass(frozen=True)
class Size:
    """Width and height of a node, and the height to keep free for it, which another renderer or a preview takes."""

    width: float
    height: float
    room: float


@dataclass(frozen=True)
class Wire:
    """A link: node and output, node and input."""

    source: str
    output: int
    target: str
    input: str


@dataclass
class Group:
    """Nodes under one title, in neighboring columns from `first` on. Without a title, no frame is drawn."""

    title: str
    first: int
    columns: list[list[str]] = field(default_factory=list)


@dataclass
class Bend:
    """A point that links pass on their way, after the bend `parent` if there is one."""

    x: float
    y: float
    wires: list[Wire]
    parent: Bend | None = None


@dataclass
class Places:
    """Boxes of nodes by id, the frames of titled groups, and the bends of links."""

    nodes: dict[str, Box]
    frames: list[tuple[str, Box]]
    bends: list[Bend]


def place(groups: Sequence[Group], sizes: Mapping[str, Size], wires: Iterable[Wire]) -> Places:
    """Stacks groups in their columns, in the given order, and leads links of distant columns around what is between.

    A group starts below everything that stands in its columns already.
    """
    count = max(group.first + len(group.columns) for group in groups)
    widths = [0.0] * count
    for group in groups:
        for index, column in enumerate(group.columns, group.first):
            widths[index] = max([widths[index], *(sizes[name].width for name in column)])
    gutter = _gutter(widths)
    lefts = [sum(widths[:index]) + index * gutter for index in range(count)]
    bottoms = [0.0] * count
    nodes: dict[str, Box] = {}
    frames: list[tuple[str, Box]] = []
    for group in groups:
        spanned = range(group.first, group.first + len(group.columns))
        top = max(bottoms[index] for index in spanned)
        top += GAP if top else 0.0
        ends = []
        for index, column in zip(spanned, group.columns, strict=True):
            y = top + (TITLE + BORDER if group.title else 0)
            for name in column:
                nodes[name] = Box(lefts[index], y + TITLE, widths[index], sizes[name].height)
                y += TITLE + sizes[name].room + GAP
            ends.append(y - GAP + (BORDER if group.title else 0))
        bottoms[spanned.start : spanned.stop] = [max(ends)] * len(spanned)
        if group.title:
            left, right = lefts[spanned.start] - BORDER, lefts[spanned[-1]] + widths[spanned[-1]] + BORDER
            frames.append((group.title, Box(left, top, right - left, max(ends) - top)))
    column_of = {
        name: index for group in groups for index, names in enumerate(group.columns, group.first) for name in names
    }
    columns = [Box(left, 0.0, width, bottom) for left, width, bottom in zip(lefts, widths, bottoms, strict=True)]
    return Places(nodes, frames, _bends(wires, nodes, columns, column_of, 0.4 * gutter))


def _gutter(widths: Sequence[float]) -> float:
    """The widest gutter with which the columns fit into the first possible of WIDTHS; the widest of all, if none is."""
    least, most = GUTTER
    found = [(width - sum(widths)) / max(1, len(widths) - 1) for width in WIDTHS]
    return next((min(most, gutter) for gutter in found if gutter >= least), most)


def _bends(
    wires: Iterable[Wire],
    nodes: Mapping[str, Box],
    columns: Sequence[Box],
    column_of: Mapping[str, int],
    beside: float,
) -> list[Bend]:
    """Bends of the links that leap over columns: they run above all columns, or below those between.

    beside: pixels between a bend and the column that its links leave or reach.

    Links of one output share its lane. The lane that starts first is the one next to the columns. Where a link rises or
    falls far, another bend keeps its curve narrow.
    """
    outputs: dict[tuple[str, int], list[Wire]] = {}
    bends: list[Bend] = []
    for wire in wires:
        leap = column_of[wire.target] - column_of[wire.source]
        source, target = nodes[wire.source], nodes[wire.target]
        if leap > 1:
            outputs.setdefault((wire.source, wire.output), []).append(wire)
        elif leap == 1:
            bends += _falling(columns[column_of[wire.target]].x - beside, source.y, target.y, wire)
    taken: list[tuple[int, int, float]] = []
    for (source, _), found in outputs.items():
        first, last = column_of[source], max(column_of[wire.target] for wire in found)
        below = max(column.bottom for column in columns[first + 1 : last])
        ends = [nodes[name].y for name in (source, *(wire.target for wire in found))]
        upwards = sum(ends) <= sum(below - y for y in ends)
        y = _free(taken, first, last, -LANE if upwards else below + LANE, -LANE if upwards else LANE)
        taken.append((first, last, y))
        start = _up_to(bends, Bend(columns[first].right + beside, y, found), nodes[source].y)
        for target in dict.fromkeys(column_of[wire.target] for wire in found):
            ending = [wire for wire in found if column_of[wire.target] == target]
            x = columns[target].x - beside
            end = Bend(x, y, ending, start)
            bends.append(end)
            for wire in ending:
                if abs(nodes[wire.target].y - y) > FAR:
                    bends.append(Bend(x, (nodes[wire.target].y + y) / 2, [wire], end))
    return bends


def _falling(x: float, start: float, end: float, wire: Wire) -> list[Bend]:
    """Bends of a link that rises or falls between two columns, at most FAR from one to the next."""
    count = math.ceil(abs(end - start) / FAR)
    found: list[Bend] = []
    for part in range(1, count):
        found.append(Bend(x, start + (end - start) * part / count, [wire], found[-1] if found else None))
    return found


def _up_to(bends: list[Bend], bend: Bend, y: float) -> Bend:
    """Adds a bend that links reach from the height y, and one half the way if that is far. Returns the former."""
    if abs(bend.y - y) > FAR:
        bend.parent = Bend(bend.x, (bend.y + y) / 2, bend.wires)
        bends.append(bend.parent)
    bends.append(bend)
    return bend


def _free(taken: Sequence[tuple[int, int, float]], first: int, last: int, y: float, step: float) -> float:
    """The first height from y on at which no lane runs yet between these columns."""
    beside = [height for start, end, height in taken if start < last and first < end]
    while any(abs(height - y) < LANE for height in beside):
        y += step
    return y


def text_height(text: str, width: float) -> float:
    """Height of a note with this text in Markdown."""
    lines = sum(math.ceil(max(1, len(line)) * 6.2 / (width - 30)) for line in text.splitlines() if line)
    return 30 + 17 * lines + 9 * text.count("\n\n")
