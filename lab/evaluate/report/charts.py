"""Charts of a report as SVG, without any library."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

Interval = Sequence[float]
COLORS = ("#4c5fd5", "#d9622b", "#2a9d6f", "#b0409b", "#8a6d1f", "#2a8fb5", "#c0394b", "#6b7280", "#6f9a1e", "#8257c9")
INK, QUIET, LINE = "#1f2430", "#6b7280", "#d6d9e0"


def color_of(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _svg(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, words: str, anchor: str = "start", color: str = QUIET, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width:g}"'
        f"{dashed}/>"
    )


class _Axis:
    """Scale from values to pixels, with a margin around the values."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        low, high = min(values), max(values)
        margin = 0.08 * (high - low) or 0.05
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        step = 10.0 ** math.floor(math.log10(self.high - self.low))
        step /= 1 if (self.high - self.low) / step > 4 else 2 if (self.high - self.low) / step > 2 else 5
        first = -(-self.low // step)
        return [round((first + i) * step, 10) for i in range(20) if (first + i) * step <= self.high]


def pareto(
    points: Mapping[str, tuple[Interval, Interval]],
    lines: Mapping[str, Sequence[str]],
    front: Sequence[str],
    axes: tuple[str, str],
) -> str:
    """Plots identity against prompt: a cross for each row, a line for each method's dial, and the front.

    points: intervals of both axes by row. lines: rows of each method by rising dial. front: rows from left to right.
    """
    width, height, left, bottom = 640, 420, 64, 370
    middle = bottom / 2 + 10
    x = _Axis([value for first, _ in points.values() for value in first], left, width - 30)
    y = _Axis([value for _, second in points.values() for value in second], bottom, 20)
    parts = [
        _line(x.at(t), 20, x.at(t), bottom, LINE) + _text(x.at(t), bottom + 18, f"{t:g}", "middle") for t in x.ticks()
    ]
    parts += [
        _line(left, y.at(t), width - 30, y.at(t), LINE) + _text(left - 8, y.at(t) + 4, f"{t:g}", "end")
        for t in y.ticks()
    ]
    parts += [
        _text((left + width - 30) / 2, height - 12, axes[0], "middle", INK, 13),
        f'<g transform="rotate(-90 16 {middle:g})">{_text(16, middle, axes[1], "middle", INK, 13)}</g>',
    ]
    place = {row: (x.at(first[0]), y.at(second[0])) for row, (first, second) in points.items()}
    parts += [_line(*place[a], *place[b], QUIET, 1.5, "5 4") for a, b in itertools.pairwise(front)]
    order, taken = list(points), []
    for rows in lines.values():
        line = color_of(order.index(rows[0]))
        parts += [_line(*place[a], *place[b], line, 2) for a, b in itertools.pairwise(rows)]
        for row in rows:
            (first, second), color = points[row], color_of(order.index(row))
            if len(first) == 3:
                parts.append(_line(x.at(first[1]), place[row][1], x.at(first[2]), place[row][1], color))
            if len(second) == 3:
                parts.append(_line(place[row][0], y.at(second[1]), place[row][0], y.at(second[2]), color))
            words = f"{row}: {axes[0]} {first[0]:.3f}, {axes[1]} {second[0]:.3f}"
            parts.append(
                f'<circle cx="{place[row][0]:.1f}" cy="{place[row][1]:.1f}" r="5" fill="{color}"><title>{escape(words)}'
                "</title></circle>"
            )
            parts.append(_label(row, place[row], color, width, taken))
    return _svg(width, height, f"{axes[1]} against {axes[0]}", parts)


def _label(words: str, point: tuple[float, float], color: str, width: float, taken: list) -> str:
    """Name beside a point, above or below the names in `taken`, to which its box is added."""
    length, anchor, start = 7.2 * len(words), "start", point[0] + 9
    if start + length > width:
        anchor, start = "end", point[0] - 9 - length
    rows = (point[1] - 7 + 13 * shift for shift in (0, -1, 2, -2, 3, -3, 4, -4, 5, -5))
    end, gap = start + length, 8
    free = (y for y in rows if all(abs(y - v) >= 13 or start > b + gap or end < a - gap for a, b, v in taken))
    y = next(free, point[1] - 7)
    taken.append((start, end, y))
    return _text(end if anchor == "end" else start, y, words, anchor, color)


def bars(values: Mapping[str, Mapping[str, float]], rows: Sequence[str], metric: str) -> str:
    """Bars of every row, grouped by subject. values: by row and subject."""
    subjects = sorted({subject for found in values.values() for subject in found})
    thick = max(4, min(12, 120 // max(1, len(rows))))
    group = thick * len(rows) + 16
    width, bottom, left = 60 + max(group, 26) * len(subjects) + 20, 180, 48
    flat = [value for found in values.values() for value in found.values()] or [0.0]
    y = _Axis([0.0, *flat], bottom, 12)
    zero = y.at(0.0)
    parts = [
        _line(left, y.at(t), width - 10, y.at(t), LINE) + _text(left - 6, y.at(t) + 4, f"{t:g}", "end")
        for t in y.ticks()
    ]
    for i, subject in enumerate(subjects):
        start = left + 10 + i * max(group, 26)
        for k, row in enumerate(rows):
            value = values.get(row, {}).get(subject)
            if value is not None:
                top, end = min(y.at(value), zero), max(y.at(value), zero)
                parts.append(
                    f'<rect x="{start + k * thick:.1f}" y="{top:.1f}" width="{thick - 1}" height="{end - top:.1f}" '
                    f'fill="{color_of(k)}"><title>{escape(f"{subject}, {row}: {value:.3f}")}</title></rect>'
                )
        middle = start + thick * len(rows) / 2
        parts.append(
            f'<g transform="rotate(-40 {middle:g} {bottom + 16:g})">{_text(middle, bottom + 16, subject, "end")}</g>'
        )
    return _svg(
        width,
        bottom + 30 + 4.5 * max((len(subject) for subject in subjects), default=0),
        f"{metric} of each subject",
        parts,
    )


def centers(places: Sequence[Sequence], rows: Sequence[str]) -> str:
    """Places of the subject in the pictures of every row, a color for each prompt. places: [row, _, prompt, x, y]."""
    side, gap, columns = 170, 24, 4
    prompts = sorted({place[2] for place in places})
    shown = [row for row in rows if any(place[0] == row for place in places)]
    parts = []
    for i, row in enumerate(shown):
        left, top = 8 + (i % columns) * (side + gap), 24 + (i // columns) * (side + 40)
        parts.append(_text(left, top - 8, row, color=INK))
        parts.append(f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="#fff" stroke="{LINE}"/>')
        for _, subject, prompt, x, y in (place for place in places if place[0] == row):
            hue = 360 * prompts.index(prompt) / max(1, len(prompts))
            parts.append(
                f'<circle cx="{left + x * side:.1f}" cy="{top + y * side:.1f}" r="3.5" fill="hsl({hue:.0f} 65% 45%)" '
                f'fill-opacity=".7"><title>{escape(f"{subject}, prompt {prompt}")}</title></circle>'
            )
    lines = -(-len(shown) // columns)
    return _svg(columns * (side + gap), lines * (side + 40) + 10, "Places of the subjects", parts)


def embedding_map(places: Sequence[Sequence], rows: Sequence[str]) -> str:
    """Pictures of every row and the photos on two axes. places: [row, subject, x, y]; another row is the photos'."""
    width, height = 640, 440
    x = _Axis([place[2] for place in places], 14, width - 14)
    y = _Axis([place[3] for place in places], height - 14, 14)
    parts = [f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" fill="#fff" stroke="{LINE}"/>']
    for row, subject, u, v in places:
        photo = row not in rows
        style = f'r="5" fill="none" stroke="{INK}"' if photo else f'r="3.5" fill="{color_of(rows.index(row))}"'
        words = f"{subject}, {'photo' if photo else row}"
        parts.append(
            f'<circle cx="{x.at(u):.1f}" cy="{y.at(v):.1f}" {style} fill-opacity=".75"><title>{escape(words)}</title>'
            "</circle>"
        )
    return _svg(width, height, "Map of the embeddings", parts)
