"""Tinyland: a procedural world of patterned subjects in simple places, deterministic from a seed.

`sample_scene(rng)` draws a scene description, `render(scene)` turns it into pixels, mask and pose, and
`captions.caption(scene, rng)` describes it in words. No caption names the emblem or the exact tint of a subject, so its
identity is more than its words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import numpy as np
from PIL import Image

from .drawing import EMBLEMS, TILE, Rgb, draw_place, draw_subject, shade

SIZE = 128
CLASSES = ("ball", "cube", "star", "heart", "house", "fish", "mushroom", "car")
COLORS: dict[str, Rgb] = {
    "red": (214, 40, 44),
    "orange": (246, 138, 28),
    "yellow": (248, 214, 48),
    "green": (48, 150, 62),
    "cyan": (60, 206, 206),
    "blue": (44, 74, 204),
    "purple": (128, 52, 168),
    "pink": (248, 142, 192),
}
PATTERNS = ("plain", "striped", "dotted", "checked")
PLACES = ("beach", "snow", "grass", "desert", "night", "city", "sea", "room")
SHADES = {"light": 1.75, "dark": 0.45}
"""Second color of a pattern, as a shade of the first."""
EMBLEM_COLORS: tuple[Rgb, ...] = ((252, 252, 252), (255, 226, 60), (60, 214, 236), (236, 60, 160))
_SUPERSAMPLING = 2


@dataclass(frozen=True)
class Subject:
    """Properties of a subject that do not change with the scene: class, color word, exact tint, pattern and emblem."""

    name: str
    color: str
    tint: Rgb
    pattern: str
    shade: str
    emblem: str | None
    emblem_color: Rgb


@dataclass(frozen=True)
class Pose:
    """Placement of a subject: center and half-size as fractions of the image, tilt in degrees, mirrored or not."""

    x: float
    y: float
    size: float
    tilt: float
    mirrored: bool


@dataclass(frozen=True)
class Scene:
    subject: Subject
    pose: Pose
    place: str
    background_seed: int

    def at(self, **changes: float | bool) -> Scene:
        """Copy of the scene with some fields of its pose changed."""
        return replace(self, pose=replace(self.pose, **changes))


@dataclass(frozen=True)
class Render:
    image: np.ndarray
    """[height, width, 3] uint8."""
    mask: np.ndarray
    """[height, width] uint8, 255 on the subject."""
    scene: Scene


def sample_subject(rng: Random) -> Subject:
    color = rng.choice(tuple(COLORS))
    tint = tuple(max(0, min(255, c + rng.randint(-14, 14))) for c in COLORS[color])
    emblem = rng.choice((*EMBLEMS, None))
    return Subject(
        name=rng.choice(CLASSES),
        color=color,
        tint=tint,  # pyright: ignore[reportArgumentType]
        pattern=rng.choice(PATTERNS),
        shade=rng.choice(tuple(SHADES)),
        emblem=emblem,
        emblem_color=rng.choice(EMBLEM_COLORS),
    )


def sample_pose(rng: Random) -> Pose:
    size = rng.uniform(0.26, 0.35)
    margin = size * 0.9
    return Pose(
        x=rng.uniform(margin, 1 - margin),
        y=rng.uniform(max(margin, 0.32), 1 - margin),
        size=size,
        tilt=rng.uniform(-24, 24),
        mirrored=rng.random() < 0.5,
    )


def sample_scene(rng: Random, subject: Subject | None = None, place: str | None = None) -> Scene:
    return Scene(
        subject=subject or sample_subject(rng),
        pose=sample_pose(rng),
        place=place or rng.choice(PLACES),
        background_seed=rng.getrandbits(32),
    )


def render(scene: Scene, size: int = SIZE) -> Render:
    """Renders pixels and subject mask of a scene; the same scene always gives the same bytes."""
    canvas_size = size * _SUPERSAMPLING
    canvas = draw_place(scene.place, Random(scene.background_seed), canvas_size)
    s, pose = scene.subject, scene.pose
    tile = draw_subject(s.name, s.pattern, s.tint, shade(s.tint, SHADES[s.shade]), s.emblem, s.emblem_color)
    if pose.mirrored:
        tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tile = tile.rotate(pose.tilt, Image.Resampling.BICUBIC, expand=True)
    side = max(1, round(tile.width * (2 * pose.size * canvas_size) / TILE))
    tile = tile.resize((side, side), Image.Resampling.BICUBIC)
    corner = (round(pose.x * canvas_size - side / 2), round(pose.y * canvas_size - side / 2))
    canvas.paste(tile.convert("RGB"), corner, tile.getchannel("A"))
    mask = Image.new("L", canvas.size, 0)
    mask.paste(tile.getchannel("A"), corner)
    image = canvas.reduce(_SUPERSAMPLING)
    return Render(np.asarray(image), np.asarray(mask.reduce(_SUPERSAMPLING)), scene)
