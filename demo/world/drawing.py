"""Shapes and places of Tinyland, drawn with Pillow in a unit frame.

Subject outlines are in [-1, 1] x [-1, 1] with y pointing down. Pillow does not antialias polygons, so everything is
drawn larger and then reduced.
"""

from __future__ import annotations

import math
from random import Random

from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
Point = tuple[float, float]

TILE = 160
INK: Rgb = (38, 32, 44)


def shade(color: Rgb, amount: float) -> Rgb:
    """Darkens (amount < 1) or lightens (amount > 1; white at 2) a color."""
    if amount <= 1:
        return tuple(round(c * amount) for c in color)  # pyright: ignore[reportReturnType]
    return tuple(round(c + (255 - c) * (amount - 1)) for c in color)  # pyright: ignore[reportReturnType]


def _ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> list[Point]:
    steps = max(12, int(abs(stop - start) / 6))
    angles = (math.radians(start + (stop - start) * i / steps) for i in range(steps + 1))
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def _heart() -> list[Point]:
    points = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 16.5, -(y + 2.3) / 15.0))
    return points


def _star(points: int = 5, inner: float = 0.5) -> list[Point]:
    out = []
    for i in range(2 * points):
        r = 1.05 if i % 2 == 0 else inner
        a = math.pi * i / points - math.pi / 2
        out.append((r * math.cos(a), r * math.sin(a) + 0.05))
    return out


# Each class: polygons filled with the pattern (the body), then polygons in fixed colors (the details).
BODIES: dict[str, list[list[Point]]] = {
    "ball": [_ellipse(0, 0, 0.95, 0.95)],
    "cube": [[(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]],
    "star": [_star()],
    "heart": [_heart()],
    "house": [[(0, -1.0), (0.98, -0.2), (0.78, -0.2), (0.78, 0.9), (-0.78, 0.9), (-0.78, -0.2), (-0.98, -0.2)]],
    "fish": [
        _ellipse(0.18, 0, 0.8, 0.6),
        [(-0.42, 0), (-1.0, -0.6), (-0.86, 0), (-1.0, 0.6)],
        [(0.0, -0.5), (0.25, -0.9), (0.5, -0.45)],
    ],
    "mushroom": [_ellipse(0, 0.05, 0.98, 0.95, 180, 360)],
    "car": [
        [
            (-0.98, 0.0),
            (-0.62, -0.04),
            (-0.4, -0.6),
            (0.42, -0.6),
            (0.68, -0.02),
            (0.98, 0.06),
            (0.98, 0.5),
            (-0.98, 0.5),
        ]
    ],
}
DETAILS: dict[str, list[tuple[list[Point], Rgb]]] = {
    "house": [([(-0.2, 0.9), (-0.2, 0.42), (0.2, 0.42), (0.2, 0.9)], (110, 72, 48))],
    "fish": [(_ellipse(0.62, -0.16, 0.13, 0.13), (250, 250, 250)), (_ellipse(0.66, -0.16, 0.07, 0.07), INK)],
    "mushroom": [([(-0.3, 0.05), (0.3, 0.05), (0.38, 0.9), (-0.38, 0.9)], (244, 232, 208))],
    "car": [
        (_ellipse(-0.52, 0.5, 0.27, 0.27), INK),
        (_ellipse(-0.52, 0.5, 0.12, 0.12), (225, 225, 230)),
        (_ellipse(0.54, 0.5, 0.27, 0.27), INK),
        (_ellipse(0.54, 0.5, 0.12, 0.12), (225, 225, 230)),
        ([(-0.3, -0.1), (-0.2, -0.44), (0.0, -0.44), (0.0, -0.1)], (205, 235, 250)),
        ([(0.1, -0.1), (0.1, -0.44), (0.32, -0.44), (0.46, -0.1)], (205, 235, 250)),
    ],
}
EMBLEM_CENTER: dict[str, Point] = {
    "house": (0.0, 0.02),
    "mushroom": (0.0, -0.42),
    "car": (0.0, 0.22),
    "fish": (0.05, 0.02),
    "heart": (0.0, -0.12),
}
EMBLEMS: dict[str, list[Point]] = {
    "disc": _ellipse(0, 0, 1, 1),
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0, -1.1), (1.05, 0.8), (-1.05, 0.8)],
    "cross": [
        (-0.36, -1),
        (0.36, -1),
        (0.36, -0.36),
        (1, -0.36),
        (1, 0.36),
        (0.36, 0.36),
        (0.36, 1),
        (-0.36, 1),
        (-0.36, 0.36),
        (-1, 0.36),
        (-1, -0.36),
        (-0.36, -0.36),
    ],
    "ring": _ellipse(0, 0, 1.05, 1.05),
}


def _scale(points: list[Point], size: float, center: Point = (0.0, 0.0), around: float = TILE / 2) -> list[Point]:
    return [
        ((center[0] + x * size) * around * 0.92 + around, (center[1] + y * size) * around * 0.92 + around)
        for x, y in points
    ]


def _pattern(pattern: str, primary: Rgb, second: Rgb) -> Image.Image:
    image = Image.new("RGB", (TILE, TILE), primary)
    draw = ImageDraw.Draw(image)
    unit = TILE / 2 * 0.92
    if pattern == "striped":
        width = 0.36 * unit
        for i in range(-4, 5):
            x = TILE / 2 + (2 * i + 0.5) * width
            draw.rectangle([x, 0, x + width * 0.86, TILE], fill=second)
    elif pattern == "checked":
        cell = 0.6 * unit
        for i in range(-4, 4):
            for j in range(-4, 4):
                if (i + j) % 2:
                    x, y = TILE / 2 + i * cell, TILE / 2 + j * cell
                    draw.rectangle([x, y, x + cell, y + cell], fill=second)
    elif pattern == "dotted":
        step, r = 0.76 * unit, 0.25 * unit
        for i in range(-4, 5):
            for j in range(-4, 5):
                x, y = TILE / 2 + (i + 0.5 * (j % 2)) * step, TILE / 2 + (j + 0.5) * step * 0.9
                draw.ellipse([x - r, y - r, x + r, y + r], fill=second)
    return image


def draw_subject(
    name: str, pattern: str, primary: Rgb, second: Rgb, emblem: str | None, emblem_color: Rgb
) -> Image.Image:
    """Draws one upright subject as an RGBA tile of TILE x TILE pixels; its alpha is the subject's mask."""
    mask = Image.new("L", (TILE, TILE), 0)
    draw = ImageDraw.Draw(mask)
    bodies = [_scale(p, 1.0) for p in BODIES[name]]
    details = [(_scale(p, 1.0), color) for p, color in DETAILS.get(name, [])]
    for polygon in bodies:
        draw.polygon(polygon, fill=255)
    outline = Image.new("L", (TILE, TILE), 0)
    pen = ImageDraw.Draw(outline)
    for polygon in bodies + [p for p, _ in details]:
        pen.polygon(polygon, fill=255)
        pen.line([*polygon, polygon[0]], fill=255, width=5, joint="curve")
    ink = shade(primary, 0.45)
    tile = Image.new("RGBA", (TILE, TILE), (*ink, 0))
    tile.paste((*ink, 255), (0, 0), outline)
    tile.paste(_pattern(pattern, primary, second).convert("RGBA"), (0, 0), mask)
    draw = ImageDraw.Draw(tile)
    for polygon, color in details:
        draw.polygon(polygon, fill=(*color, 255))
        draw.line([*polygon, polygon[0]], fill=(*ink, 255), width=2)
    if emblem is not None:
        center = EMBLEM_CENTER.get(name, (0.0, 0.0))
        polygon = _scale(EMBLEMS[emblem], 0.32 if name != "car" else 0.24, center)
        draw.polygon(polygon, fill=(*emblem_color, 255))
        draw.line([*polygon, polygon[0]], fill=(*ink, 255), width=4)
        if emblem == "ring":
            draw.polygon(_scale(EMBLEMS["disc"], 0.14 if name != "car" else 0.1, center), fill=(*INK, 255))
    return tile


def _gradient(size: int, top: Rgb, bottom: Rgb) -> Image.Image:
    strip = Image.new("RGB", (1, 2))
    strip.putdata([top, bottom])
    return strip.resize((size, size), Image.Resampling.BILINEAR)


def _jitter(rng: Random, color: Rgb, amount: int = 8) -> Rgb:
    shift = rng.randint(-amount, amount)
    return tuple(max(0, min(255, c + shift)) for c in color)  # pyright: ignore[reportReturnType]


_SKIES: dict[str, tuple[Rgb, Rgb, Rgb, Rgb]] = {  # sky top, sky bottom, ground far, ground near
    "beach": ((92, 182, 240), (176, 224, 250), (240, 216, 150), (226, 192, 118)),
    "snow": ((182, 200, 222), (222, 232, 242), (246, 249, 253), (226, 236, 247)),
    "grass": ((128, 198, 246), (202, 232, 250), (124, 198, 92), (80, 160, 62)),
    "desert": ((250, 186, 110), (252, 222, 160), (222, 160, 88), (194, 124, 62)),
    "night": ((14, 16, 52), (40, 42, 98), (34, 44, 66), (22, 28, 46)),
    "city": ((176, 186, 200), (208, 212, 220), (112, 114, 122), (84, 86, 94)),
    "sea": ((72, 160, 214), (44, 128, 190), (24, 96, 160), (12, 62, 122)),
    "room": ((236, 206, 190), (228, 192, 174), (152, 100, 66), (128, 80, 50)),
}


def draw_place(place: str, rng: Random, size: int) -> Image.Image:
    """Background of one scene, RGB, size x size pixels, varied by the generator's state."""
    top, bottom, far, near = (_jitter(rng, c) for c in _SKIES[place])
    image = _gradient(size, top, bottom)
    horizon = int(size * rng.uniform(0.52, 0.64))
    image.paste(_gradient(size, far, near), (0, horizon))
    draw = ImageDraw.Draw(image)
    _PLACE_DETAILS[place](draw, rng, size, horizon)
    return image


def _disc(draw: ImageDraw.ImageDraw, rng: Random, s: int, color: Rgb) -> None:
    x, y, r = rng.uniform(0.12, 0.88) * s, rng.uniform(0.11, 0.2) * s, 0.085 * s
    draw.ellipse([x - r, y - r, x + r, y + r], fill=color)


def _beach(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    draw.rectangle([0, h - s * 0.14, s, h], fill=(40, 146, 200))
    _disc(draw, rng, s, (255, 236, 120))


def _snow(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    for x in (rng.uniform(0.02, 0.2), rng.uniform(0.8, 0.98)):
        draw.polygon([((x - 0.13) * s, h), ((x + 0.13) * s, h), (x * s, h - 0.36 * s)], fill=(70, 122, 116))


def _grass(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    x = rng.uniform(0.1, 0.6) * s
    draw.ellipse([x, 0.09 * s, x + 0.18 * s, 0.22 * s], fill=(246, 250, 255))
    draw.ellipse([x + 0.1 * s, 0.11 * s, x + 0.32 * s, 0.22 * s], fill=(246, 250, 255))


def _desert(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    x = rng.choice([rng.uniform(0.06, 0.14), rng.uniform(0.86, 0.94)]) * s
    w, green = s * 0.045, (86, 140, 80)
    draw.rounded_rectangle([x - w, h - 0.32 * s, x + w, h + 0.05 * s], radius=w, fill=green)


def _night(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    _disc(draw, rng, s, (246, 240, 200))


def _city(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    x = rng.uniform(-0.1, 0.0) * s
    for k in range(5):
        w, top = 0.2 * s, h - rng.uniform(0.16, 0.42) * s
        draw.rectangle([x, top, x + w, h], fill=(138, 118, 112) if k % 2 else (112, 100, 104))
        x += w + 0.04 * s


def _sea(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    y = rng.uniform(0.1, 0.2) * s
    draw.rectangle([0, y, s, y + 0.05 * s], fill=(140, 204, 236))
    y = rng.uniform(0.84, 0.92) * s
    draw.rectangle([0, y, s, y + 0.05 * s], fill=(40, 120, 182))


def _room(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    x = rng.uniform(0.06, 0.62) * s
    draw.rectangle([x, 0.06 * s, x + 0.32 * s, 0.34 * s], fill=(250, 250, 246))
    draw.rectangle([x + 0.04 * s, 0.1 * s, x + 0.28 * s, 0.3 * s], fill=(156, 210, 244))


_PLACE_DETAILS = {
    "beach": _beach,
    "snow": _snow,
    "grass": _grass,
    "desert": _desert,
    "night": _night,
    "city": _city,
    "sea": _sea,
    "room": _room,
}
