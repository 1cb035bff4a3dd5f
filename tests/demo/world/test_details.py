"""Sizes of drawn details: nothing is narrower than a latent pixel of the autoencoder, eight pixels."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from likeness.demo.world import extras
from likeness.demo.world.drawing import OUTLINE, draw_subject
from likeness.demo.world.figures import EMBLEM_HOLE, EMBLEM_SIZE, EMBLEMS, FIGURES
from likeness.demo.world.scene import CLASSES, PATTERNS, SIZE, SMALLEST, Pose, sample_pose
from likeness.demo.world.shapes import INK, Frame
from PIL import Image, ImageDraw
from scipy import ndimage

ZOOM = 5
LARGE = SIZE * ZOOM
LATENT_PIXEL = 8.0
GREEN, BLUE, RED = (0, 200, 0), (0, 0, 230), (230, 0, 0)
SMALL = Pose(0.5, 0.5, SMALLEST, 0.0, False).frame(LARGE)


def widths(region: np.ndarray) -> list[float]:
    """Diameter of the largest disc in each connected part of a region, in pixels of a picture of SIZE.

    Parts under one pixel are edges between two colors.
    """
    labels, count = ndimage.label(region)
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    found = 2 * np.atleast_1d(ndimage.maximum(depth, labels, range(1, count + 1))) / ZOOM if count else np.array([])
    return [float(w) for w in found if w > 1]


def colored(layer, channel: int) -> np.ndarray:
    """Region of a layer in one of the three pure colors, in any light."""
    own, *others = np.roll(np.moveaxis(layer.color, -1, 0), -channel, 0)
    return (layer.alpha[..., 0] > 0.99) & (own > 100) & all_above(own, others)


def all_above(own: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    return np.logical_and.reduce([own > other + 50 for other in others])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", CLASSES)
def test_parts_of_a_pattern(name, pattern):
    layer = draw_subject(SMALL, LARGE, name, pattern, GREEN, BLUE, None, RED)
    first, second = widths(colored(layer, 1)), widths(colored(layer, 2))
    assert first and min(first) >= LATENT_PIXEL, first
    assert (pattern == "plain") is (not second) and min(second, default=99) >= LATENT_PIXEL, second


@pytest.mark.parametrize("emblem", EMBLEMS)
@pytest.mark.parametrize("name", CLASSES)
def test_emblems_and_their_arms(name, emblem):
    layer = draw_subject(SMALL, LARGE, name, "plain", GREEN, BLUE, emblem, RED)
    (width,) = widths(colored(layer, 0))
    assert width >= LATENT_PIXEL
    if emblem == "cross":  # four arms, each as wide: a disc of eight pixels reaches into nearly all of it
        region = colored(layer, 0)
        core = ndimage.distance_transform_edt(region) >= ZOOM * LATENT_PIXEL / 2
        assert (ndimage.distance_transform_edt(~core)[region] <= ZOOM * LATENT_PIXEL / 2 + 1).mean() > 0.9
    if emblem == "ring":
        hole = max(x for x, _ in EMBLEM_HOLE) * 2 * EMBLEM_SIZE * SMALL.unit / ZOOM
        assert hole >= LATENT_PIXEL


def visible_parts(frame: Frame, parts, line: float) -> list[list[float]]:
    """Widths of what is seen of each part within its outline; ink merges with the outline."""
    image = Image.new("L", (LARGE, LARGE), 0)
    draw = ImageDraw.Draw(image)
    for number, (polygon, color) in enumerate(parts, 1):
        points = frame(polygon)
        draw.polygon(points, fill=number)
        draw.line([*points, *points[:2]], fill=number if color == INK else 255, width=round(line * LARGE))
    pixels = np.asarray(image)
    return [widths(pixels == number) for number in range(1, len(parts) + 1)]


DRAWN = {
    "hat": (SMALL, extras.HAT),
    "umbrella": (Frame(LARGE / 2, LARGE / 2, extras.UMBRELLA * LARGE), extras.umbrella(0.6)),
    "moon": (Frame(LARGE / 2, LARGE / 2, extras.MOON * LARGE), [(extras.crescent(), (255, 255, 255))]),
    "rain": (Frame(LARGE / 2, LARGE / 2, extras.RAINDROP * LARGE), [(extras.DROP, (255, 255, 255))]),
    **{
        name: (Frame(LARGE / 2, LARGE / 2, extras.COMPANION * LARGE), parts)
        for name, parts in extras.SMALL_THINGS.items()
    },
}


@pytest.mark.parametrize("name", extras.EXTRAS)
def test_parts_of_an_extra(name):
    frame, parts = DRAWN[name]
    found = visible_parts(frame, parts, extras.LINE)
    assert all(found) and min(map(min, found)) >= LATENT_PIXEL, found


def test_raindrops_keep_their_distance():
    for seed in range(20):
        layer = extras.draw_rain(Random(seed), LARGE)
        drops, _ = ndimage.label(layer.alpha[..., 0] > 0.5)
        area = np.bincount(drops.ravel())
        drops[area[drops] < ZOOM**2] = 0  # specks beside an outline
        number = np.unique(drops)[1:]
        assert len(number) >= 10
        for one in number[::4]:
            away = ndimage.distance_transform_edt(drops != one)[(drops > 0) & (drops != one)]
            assert away.min() / ZOOM >= LATENT_PIXEL


def test_no_subject_is_smaller():
    for i in range(500):
        rng = Random(i)
        assert sample_pose(rng, () if i % 2 else ("hat",)).size >= SMALLEST
    assert OUTLINE * SIZE > 2 and set(FIGURES) == set(CLASSES)
