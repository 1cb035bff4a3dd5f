"""The comparison sheet: the photographs on the left, then one column for each way to draw the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE, GAP, GROUP_GAP, MARGIN, HEAD = 256, 6, 24, 24, 96
_INK, _GRAY = (30, 30, 36), (110, 110, 120)


@dataclass(frozen=True)
class Column:
    """Pictures under a title. said: small lines below it."""

    title: str
    said: str
    pictures: Sequence[Image.Image]


def thumbnail(path: Path) -> Image.Image:
    """A photograph, turned as its tag says, whole on a white square."""
    with Image.open(path) as picture:
        picture.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG of many megapixels is read small
        turned = ImageOps.exif_transpose(picture).convert("RGBA")
    white = Image.new("RGBA", turned.size, "white")
    return ImageOps.pad(Image.alpha_composite(white, turned).convert("RGB"), (SIDE, SIDE), color="white")


def compose(prompt: str, columns: Sequence[Column]) -> Image.Image:
    """Composes the columns, each at most two pictures wide, under the prompt."""
    rows = max(-(-len(column.pictures) // 2) for column in columns)
    widths = [SIDE + (SIDE + GAP) * (len(column.pictures) > 1) for column in columns]
    lefts = [MARGIN + sum(widths[:index]) + index * GROUP_GAP for index in range(len(columns))]
    size = (lefts[-1] + widths[-1] + MARGIN, 2 * MARGIN + HEAD + rows * (SIDE + GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(size=17), ImageFont.load_default(size=14)
    draw.text((MARGIN, MARGIN - 6), f'"{prompt}"', fill=_INK, font=large)
    for column, left, width in zip(columns, lefts, widths, strict=True):
        for text, top, fill, font in ((column.title, 32, _INK, large), (column.said, 60, _GRAY, small)):
            draw.text((left, MARGIN + top), _cut(text, font, width + GROUP_GAP // 2), fill=fill, font=font)
        for k, picture in enumerate(column.pictures):
            at = left + k % 2 * (SIDE + GAP), MARGIN + HEAD + k // 2 * (SIDE + GAP)
            sheet.paste(ImageOps.pad(picture, (SIDE, SIDE), color="white"), at)
    return sheet


def _cut(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """The text, shortened to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
