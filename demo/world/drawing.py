"""Draws a subject: outline, pattern, details and emblem, in light from the upper left and with a shadow on the ground.

Pillow does not antialias polygons, so everything is drawn larger and then reduced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .figures import EMBLEM_HOLE, EMBLEM_SIZE, EMBLEMS, FIGURES
from .patterns import parts
from .shapes import INK, Frame, Polygon, Rgb, moved, shade, sharp_corners

SUPERSAMPLING = 3
OUTLINE, LINE = 0.024, 0.016
"""Widths of a body's outline and of a detail's, in fractions of the picture."""
_BRIGHTEST, _DARKEST = 1.14, 0.8


@dataclass(frozen=True)
class Layer:
    """Part of a picture: color [size, size, 3] and opacity [size, size, 1], float32, 0 to 255 and 0 to 1."""

    color: np.ndarray
    alpha: np.ndarray

    def over(self, picture: np.ndarray) -> np.ndarray:
        return picture + (self.color - picture) * self.alpha


class Pen:
    """Large canvas on which polygons are filled and outlined."""

    def __init__(self, size: int, ink: Rgb):
        self.size, self.ink = size, ink
        side = size * SUPERSAMPLING
        self.image, self.mask = Image.new("RGB", (side, side), ink), Image.new("L", (side, side), 0)
        self.draw, self.cover = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)

    def fill(self, polygon: Polygon, color: Rgb | Image.Image, line: float = LINE) -> None:
        """Fills a polygon, in pixels of the canvas, with a color or a picture, and outlines it."""
        self.cover.polygon(polygon, fill=255)
        if isinstance(color, Image.Image):
            inside = Image.new("L", self.mask.size, 0)
            ImageDraw.Draw(inside).polygon(polygon, fill=255)
            self.image.paste(color, (0, 0), inside)
        else:
            self.draw.polygon(polygon, fill=color)
        if line:
            self.line(polygon, line)

    def line(self, polygon: Polygon, width: float) -> None:
        """Draws the edge of a polygon, its corners rounded."""
        pixels = max(1, round(width * self.size * SUPERSAMPLING))
        r = pixels / 2
        corners = [(x - r, y - r, x + r, y + r) for x, y in sharp_corners(polygon)]
        for draw, color in ((self.draw, self.ink), (self.cover, 255)):
            draw.line([*polygon, polygon[0]], fill=color, width=pixels)
            for corner in corners:
                draw.ellipse(corner, fill=color)

    def layer(self) -> Layer:
        color, alpha = (np.asarray(part.reduce(SUPERSAMPLING), np.float32) for part in (self.image, self.mask))
        return Layer(color, alpha[..., None] / 255)


def draw_subject(
    frame: Frame, size: int, name: str, pattern: str, primary: Rgb, second: Rgb, emblem: str | None, emblem_color: Rgb
) -> Layer:
    """Draws a subject, lit, in a picture of size x size pixels; its opacity is the subject's mask."""
    figure, large = FIGURES[name], frame.scaled(SUPERSAMPLING)
    pen = Pen(size, shade(primary, 0.34))
    for polygon, color in figure.behind:
        pen.fill(large(polygon), color)
    for polygon in figure.fins:
        pen.fill(large(polygon), primary, OUTLINE)
    surface = _surface(large, pen.image.size[0], name, pattern, primary, second)
    for polygon in figure.bodies:
        pen.fill(large(polygon), surface, OUTLINE)
    for polygon, color in figure.details:
        pen.fill(large(polygon), color)
    if emblem is not None:
        place = {"scale": EMBLEM_SIZE, "center": figure.emblem}
        pen.fill(large(moved(EMBLEMS[emblem], **place)), emblem_color, OUTLINE)
        if emblem == "ring":
            pen.fill(large(moved(EMBLEM_HOLE, **place)), INK, 0)
    return lit(pen.layer(), frame)


def _surface(frame: Frame, side: int, name: str, pattern: str, primary: Rgb, second: Rgb) -> Image.Image:
    """Pattern over the whole canvas, darker or lighter where a face of the subject is."""
    image = Image.new("RGB", (side, side), primary)
    draw = ImageDraw.Draw(image)
    for polygon in parts(name, pattern):
        draw.polygon(frame(polygon), fill=second)
    for polygon, brightness in FIGURES[name].faces:
        inside = Image.new("L", image.size, 0)
        ImageDraw.Draw(inside).polygon(frame(polygon), fill=255)
        image.paste(image.point([shade((v, v, v), brightness)[0] for v in range(256)] * 3), (0, 0), inside)
    return image


def lit(layer: Layer, frame: Frame) -> Layer:
    """Shades a layer as something round: bright toward the upper left, dark along its lower right edge."""
    size = len(layer.color)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    near = ((x - frame.x) / frame.unit + 0.42) ** 2 + ((y - frame.y) / frame.unit + 0.5) ** 2
    light = _BRIGHTEST - (_BRIGHTEST - _DARKEST) * np.minimum(near / 3.2, 1.0)
    reach = max(1, round(0.1 * frame.unit))
    mask = Image.fromarray(np.uint8(np.round(layer.alpha[..., 0] * 255)))
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(reach)), np.float32) / 255
    inner = np.roll(soft, (-reach, -reach), (0, 1))
    light = (light * (0.74 + 0.26 * np.clip(inner * 1.25, 0, 1)))[..., None]
    color = np.where(light <= 1, layer.color * light, 255 - (255 - layer.color) * (2 - light))
    return Layer(color.astype(np.float32), layer.alpha)


def shadow(mask: np.ndarray) -> np.ndarray:
    """Brightness [size, size, 1] of the ground under a mask [size, size] from 0 to 1; 1 if the mask is empty."""
    rows, columns = (np.flatnonzero((mask > 0.5).any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.ones((*mask.shape, 1), np.float32)
    left, right, bottom = columns[0], columns[-1] + 1, rows[-1] + 1
    width = right - left
    y, x = np.mgrid[0 : len(mask), 0 : len(mask)].astype(np.float32) + 0.5
    reach = ((x - (left + right) / 2 - 0.06 * width) / (0.56 * width)) ** 2 + (
        (y - bottom + 0.02 * width) / (0.14 * width)
    ) ** 2
    return (1 - 0.42 * np.clip(1.6 * (1 - reach), 0, 1))[..., None]
