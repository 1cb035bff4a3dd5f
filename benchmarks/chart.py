"""Pictures for reports: a chart of three metrics, and one picture below another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

_COLORS = {"identity": (200, 60, 40), "prompt": (30, 90, 200), "layout": (40, 140, 70)}


def beside(sheet: Image.Image, chart: Image.Image) -> Image.Image:
    """Puts a chart below the sheet."""
    width = max(sheet.width, chart.width)
    both = Image.new("RGB", (width, sheet.height + chart.height), "white")
    both.paste(sheet, (0, 0))
    both.paste(chart, (0, sheet.height))
    return both


def lines(rows: list[dict], positions: Sequence[float], label: str, side: int = 300) -> Image.Image:
    """Draws identity, prompt accuracy and layout spread of rows with their intervals on one axis from 0 to 1."""
    picture = Image.new("RGB", (side + 160, side + 60), "white")
    draw = ImageDraw.Draw(picture)
    left, bottom = 40, side + 20
    draw.rectangle([left, 20, left + side, bottom], outline=(190, 190, 190))
    for tick in (0.0, 0.5, 1.0):
        draw.text((8, bottom - tick * side - 6), f"{tick:.1f}", fill="black")

    def at(position: float, value: float) -> tuple[float, float]:
        return left + side * position / max(positions), bottom - side * min(max(value, 0.0), 1.0)

    for i, (metric, color) in enumerate(_COLORS.items()):
        points = [at(position, found[metric][0]) for position, found in zip(positions, rows, strict=True)]
        draw.line(points, fill=color, width=2)
        for position, found in zip(positions, rows, strict=True):
            draw.line([at(position, found[metric][1]), at(position, found[metric][2])], fill=color)
        draw.text((left + side + 12, 30 + 18 * i), metric, fill=color)
    for position in positions:
        draw.text((at(position, 0)[0] - 4, bottom + 6), f"{position:g}", fill="black")
    draw.text((left + side // 2 - 50, bottom + 22), label, fill="black")
    return picture


Point = tuple[float, float]
_PALETTE = (
    (200, 60, 40),
    (30, 90, 200),
    (40, 140, 70),
    (160, 80, 180),
    (220, 140, 20),
    (20, 150, 160),
    (120, 90, 60),
    (230, 90, 150),
)


def pareto(
    paths: Mapping[str, Sequence[Point]],
    labels: tuple[str, str],
    title: str = "",
    start: Point | None = None,
    side: int = 340,
) -> Image.Image:
    """Draws one line per method through its points, from weak to strong; the last point is a square.

    labels: of the horizontal and the vertical axis. start: point of the model without any method, a cross.
    """
    points = [*(point for path in paths.values() for point in path), *([start] if start else [])]
    (low_x, high_x), (low_y, high_y) = (_range([point[axis] for point in points]) for axis in (0, 1))
    left, top = 56, 28
    picture = Image.new("RGB", (left + side + 230, top + side + 48), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle([left, top, left + side, top + side], outline=(190, 190, 190))
    draw.text((left, 8), title, fill="black")

    def at(point: Point) -> Point:
        return (
            left + side * (point[0] - low_x) / (high_x - low_x),
            top + side * (1 - (point[1] - low_y) / (high_y - low_y)),
        )

    for share in (0.0, 0.5, 1.0):
        x, y = low_x + share * (high_x - low_x), low_y + share * (high_y - low_y)
        draw.text((at((x, low_y))[0] - 12, top + side + 4), f"{x:.2f}", fill="black")
        draw.text((8, at((low_x, y))[1] - 6), f"{y:.2f}", fill="black")
    draw.text((left + side // 2 - 20, top + side + 22), labels[0], fill="black")
    draw.text((left + 4, top + 4), labels[1], fill="black")
    for i, (name, path) in enumerate(paths.items()):
        color, places = _PALETTE[i % len(_PALETTE)], [at(point) for point in path]
        if len(places) > 1:
            draw.line(places, fill=color, width=2)
        for x, y in places[:-1]:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=color)
        x, y = places[-1]
        draw.rectangle([x - 4, y - 4, x + 4, y + 4], fill=color)
        draw.text((left + side + 14, top + 4 + 18 * i), name, fill=color)
    if start:
        x, y = at(start)
        draw.line([x - 6, y, x + 6, y], fill="black", width=2)
        draw.line([x, y - 6, x, y + 6], fill="black", width=2)
    return picture


def _range(values: Sequence[float]) -> Point:
    """Ends of an axis that leave a margin around the values."""
    low, high = min(values), max(values)
    margin = max(0.02, 0.08 * (high - low))
    return low - margin, high + margin
