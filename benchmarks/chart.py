"""Pictures for reports: a chart of three metrics, and one picture below another."""

from __future__ import annotations

from collections.abc import Sequence

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
