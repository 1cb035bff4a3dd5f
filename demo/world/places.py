"""Places of Tinyland, drawn with large, plain parts that survive an autoencoder of eight pixels per latent pixel."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageDraw

from .shapes import Rgb, ellipse, moved


def _gradient(size: int, top: Rgb, bottom: Rgb, height: int) -> Image.Image:
    strip = Image.new("RGB", (1, 2))
    strip.putdata([top, bottom])
    return strip.resize((size, height), Image.Resampling.BILINEAR)


def _jitter(rng: Random, color: Rgb, amount: int = 8) -> Rgb:
    shift = rng.randint(-amount, amount)
    return tuple(max(0, min(255, c + shift)) for c in color)  # pyright: ignore[reportReturnType]


_COLORS: dict[str, tuple[Rgb, Rgb, Rgb, Rgb]] = {  # sky top, sky bottom, ground far, ground near
    "beach": ((96, 190, 244), (190, 230, 250), (246, 222, 160), (232, 198, 124)),
    "snow": ((160, 190, 222), (222, 234, 244), (250, 252, 255), (222, 234, 248)),
    "grass": ((120, 196, 248), (206, 234, 252), (136, 206, 98), (78, 160, 62)),
    "desert": ((250, 178, 104), (254, 226, 168), (224, 160, 90), (190, 118, 60)),
    "night": ((12, 16, 58), (54, 56, 122), (46, 58, 88), (24, 30, 52)),
    "city": ((170, 184, 204), (214, 218, 226), (122, 124, 132), (84, 86, 94)),
    "sea": ((132, 206, 246), (208, 236, 250), (34, 122, 190), (12, 62, 128)),
    "room": ((244, 216, 196), (234, 200, 180), (168, 112, 74), (132, 84, 52)),
}


def draw_place(place: str, rng: Random, size: int) -> Image.Image:
    """Background of one scene, RGB, size x size pixels, varied by the generator's state."""
    top, bottom, far, near = (_jitter(rng, c) for c in _COLORS[place])
    horizon = int(size * rng.uniform(0.5, 0.6))
    image = Image.new("RGB", (size, size))
    image.paste(_gradient(size, top, bottom, horizon), (0, 0))
    image.paste(_gradient(size, far, near, size - horizon), (0, horizon))
    _DETAILS[place](ImageDraw.Draw(image), rng, size, horizon)
    return image


def _cloud(draw: ImageDraw.ImageDraw, x: float, y: float, s: int, color: Rgb = (252, 253, 255)) -> None:
    for dx, dy, r in ((-0.11, 0.02, 0.06), (0.0, -0.02, 0.085), (0.11, 0.02, 0.065)):
        draw.polygon(moved(ellipse(dx, dy, r, r), s, (x * s, y * s)), fill=color)
    draw.rectangle([(x - 0.11) * s, (y + 0.02) * s, (x + 0.11) * s, (y + 0.083) * s], fill=color)


def _side(rng: Random, margin: float) -> float:
    """Position near the left or right edge, so that the subject hides little of what stands there."""
    return rng.choice((margin, 1 - margin)) + rng.uniform(-0.04, 0.04)


def _beach(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    draw.rectangle([0, h - 0.15 * s, s, h], fill=(30, 140, 204))
    draw.rectangle([0, h - 0.01 * s, s, h + 0.065 * s], fill=(236, 250, 252))
    x, y = _side(rng, 0.16) * s, h - 0.05 * s
    draw.polygon(moved([(-0.09, -0.02), (0.0, -0.02), (0.0, -0.24)], s, (x, y)), fill=(252, 252, 250))
    draw.polygon(moved([(0.012, -0.02), (0.012, -0.2), (0.1, -0.02)], s, (x, y)), fill=(240, 120, 96))
    draw.polygon(moved([(-0.12, 0.0), (0.12, 0.0), (0.07, 0.07), (-0.07, 0.07)], s, (x, y)), fill=(150, 92, 60))


def _snow(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    for x in (rng.uniform(0.04, 0.18), rng.uniform(0.82, 0.96)):
        tip = h - rng.uniform(0.28, 0.36) * s
        base = h + 0.02 * s
        draw.rectangle([(x - 0.035) * s, base, (x + 0.035) * s, base + 0.07 * s], fill=(122, 86, 62))
        draw.polygon([((x - 0.15) * s, base), ((x + 0.15) * s, base), (x * s, tip)], fill=(44, 112, 98))
        cap = (base - tip) * 0.42
        draw.polygon(
            [(x * s - 0.15 * s * 0.42, tip + cap), (x * s + 0.15 * s * 0.42, tip + cap), (x * s, tip)], "white"
        )


def _grass(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    hill = rng.uniform(0.1, 0.9)
    draw.polygon(ellipse(hill * s, h + 0.04 * s, 0.5 * s, 0.16 * s, 180, 360), fill=(104, 182, 84))
    _cloud(draw, rng.uniform(0.18, 0.82), rng.uniform(0.1, 0.18), s)


def _desert(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    dune = rng.uniform(0.2, 0.8)
    draw.polygon(ellipse(dune * s, h + 0.02 * s, 0.46 * s, 0.12 * s, 180, 360), fill=(236, 184, 112))
    x, w, green = _side(rng, 0.13), 0.045, (74, 138, 78)
    for box in (
        (x - w, -0.36, x + w, 0.08),
        (x - 0.135, -0.26, x - 0.065, -0.1),
        (x - 0.135, -0.16, x, -0.09),
        (x + 0.065, -0.31, x + 0.135, -0.14),
        (x, -0.21, x + 0.135, -0.14),
    ):
        left, top, right, bottom = box
        draw.rounded_rectangle([left * s, h + top * s, right * s, h + bottom * s], radius=0.034 * s, fill=green)


def _night(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    draw.polygon(ellipse(rng.uniform(0.2, 0.8) * s, h + 0.04 * s, 0.5 * s, 0.16 * s, 180, 360), fill=(36, 44, 78))
    for i in range(4):
        x, y, r = (0.14 + 0.24 * i + rng.uniform(-0.05, 0.05)) * s, rng.uniform(0.08, 0.34) * s, 0.056 * s
        q = 0.42 * r
        points = [(0, -r), (q, -q), (r, 0), (q, q), (0, r), (-q, q), (-r, 0), (-q, -q)]
        draw.polygon(moved(points, 1.0, (x, y)), fill=(255, 240, 170))


def _city(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    x = rng.uniform(-0.1, 0.0)
    for k in range(5):
        w, top = 0.21, h - rng.uniform(0.2, 0.36) * s
        draw.rectangle([x * s, top, (x + w) * s, h], fill=(132, 108, 112) if k % 2 else (96, 96, 116))
        for row in range(2):
            for column in range(2):
                left, y = (x + 0.027 + 0.09 * column) * s, top + (0.04 + 0.1 * row) * s
                if y + 0.064 * s < h:
                    draw.rectangle([left, y, left + 0.066 * s, y + 0.066 * s], fill=(252, 222, 132))
        x += w + 0.02
    y = h + rng.uniform(0.14, 0.2) * s
    for k in range(4):
        left = (0.02 + 0.26 * k) * s
        draw.rectangle([left, y, left + 0.16 * s, y + 0.064 * s], fill=(238, 236, 226))


def _sea(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    _cloud(draw, rng.uniform(0.16, 0.84), rng.uniform(0.1, 0.2), s)
    for row, color in ((0.0, (70, 156, 214)), (0.17, (44, 126, 192)), (0.34, (28, 96, 164))):
        shift, y = rng.uniform(0, 0.25), h + row * s
        for k in range(-1, 5):
            draw.polygon(ellipse((shift + 0.25 * k) * s, y + 0.05 * s, 0.125 * s, 0.08 * s, 180, 360), fill=color)
        draw.rectangle([0, y + 0.05 * s, s, y + 0.115 * s], fill=color)


def _room(draw: ImageDraw.ImageDraw, rng: Random, s: int, h: int) -> None:
    x = rng.choice((rng.uniform(0.04, 0.12), rng.uniform(0.56, 0.64)))
    draw.rectangle([x * s, 0.06 * s, (x + 0.32) * s, 0.38 * s], fill=(252, 250, 244))
    draw.rectangle([(x + 0.065) * s, 0.125 * s, (x + 0.255) * s, 0.315 * s], fill=(146, 208, 246))
    draw.rectangle([0, h - 0.03 * s, s, h + 0.035 * s], fill=(250, 242, 230))
    rug = rng.uniform(0.35, 0.65)
    draw.polygon(ellipse(rug * s, 0.86 * s, 0.42 * s, 0.12 * s), fill=(86, 122, 142))


_DETAILS = {
    "beach": _beach,
    "snow": _snow,
    "grass": _grass,
    "desert": _desert,
    "night": _night,
    "city": _city,
    "sea": _sea,
    "room": _room,
}
