"""The large picture of `run.py demo --full`: subjects in several scenes, one picture of each method, numbers below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .picture import BASELINE, COLUMNS, REFERENCES, Column

SIDE, GAP, MARGIN, LINE, BETWEEN = 192, 6, 16, 20, 14
SHOWN = (REFERENCES, BASELINE, *COLUMNS[2:])
"""Columns of the sheet: the last stage of each method."""
TITLES = ("photos", "personalized alone", "Layout-and-Retouch", "Pick-and-Draw", "JeDi, not personalized")
_INK, _GRAY = (30, 30, 36), (110, 110, 120)
_FOOT = ("looks like the subject", "follows the prompt", "layout varies")


def compose(rows: Sequence[Mapping[str, Any]], means: Mapping[str, Mapping[str, float]]) -> Image.Image:
    """Composes the first picture of each column; rows of one subject stand together, each beside another photo."""
    large, small = ImageFont.load_default(size=17), ImageFont.load_default(size=13)
    groups = [list(some) for _, some in groupby(rows, lambda row: row["subject"])]
    width = 2 * MARGIN + len(SHOWN) * (SIDE + GAP) - GAP
    height = 2 * MARGIN + 28 + len(rows) * (SIDE + LINE + GAP) + (len(groups) - 1) * BETWEEN + 8 + 3 * LINE
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    lefts = [MARGIN + index * (SIDE + GAP) for index in range(len(SHOWN))]
    for title, left in zip(TITLES, lefts, strict=True):
        pen.text((left + SIDE / 2, MARGIN + 10), title, _INK, large, anchor="mm")
    top = MARGIN + 28
    for group in groups:
        for number, row in enumerate(group):
            for column, left in zip(SHOWN, lefts, strict=True):
                sheet.paste(_picture(row, column, number), (left, top + LINE))
            pen.text((lefts[1], top + LINE / 2), row["title"], _GRAY, small, anchor="lm")
            top += SIDE + LINE + GAP
        top += BETWEEN
    top += 8 - BETWEEN
    for line, (metric, words) in enumerate(zip(("identity", "prompt", "layout"), _FOOT, strict=True)):
        y = top + line * LINE + LINE / 2
        pen.text((lefts[0] + SIDE, y), words, _GRAY, small, anchor="rm")
        for column, left in zip(SHOWN[1:], lefts[1:], strict=True):
            value = means[column.title][metric]
            text = f"{value:.0%}" if metric == "prompt" else f"{value:.2f}"
            pen.text((left + SIDE / 2, y), text, _GRAY, small, anchor="mm")
    return sheet


def _picture(row: Mapping[str, Any], column: Column, number: int) -> Image.Image:
    pictures = row["pictures"][column]
    pixels = pictures[number % len(pictures)] if column == REFERENCES else pictures[0]
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
