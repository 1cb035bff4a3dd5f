"""Components and distances against brute force, and scipy against torch."""

import math

import pytest
import torch
from likeness.kernels.morphology import METRICS, SCIPY, TORCH


def boxes(*spans, size=9):
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    for top, bottom, left, right in spans:
        mask[0, top : bottom + 1, left : right + 1] = True
    return mask


def spiral(size):
    """One component that is one pixel thin and as long as a grid can hold."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True
    for _ in range(size * size):
        ny, nx, ay, ax = y + dy, x + dx, y + 2 * dy, x + 2 * dx
        blocked = not (0 <= ny < size and 0 <= nx < size) or (0 <= ay < size and 0 <= ax < size and bool(mask[ay, ax]))
        if blocked:
            dy, dx = dx, -dy
            if bool(mask[min(max(y + dy, 0), size - 1), min(max(x + dx, 0), size - 1)]):
                break
            continue
        y, x = ny, nx
        mask[y, x] = True
    return mask[None]


def random_masks(count=6, height=13, width=17, seed=0):
    generator = torch.Generator().manual_seed(seed)
    density = torch.linspace(0.1, 0.9, count)[:, None, None]
    return torch.rand(count, height, width, generator=generator) < density


@pytest.mark.parametrize(
    "mask", [random_masks(), spiral(15), boxes(), boxes((0, 8, 0, 8))], ids=["random", "spiral", "empty", "full"]
)
def test_torch_finds_the_components_that_scipy_finds(mask):
    first, second = SCIPY.labels(mask), TORCH.labels(mask)
    assert torch.equal(first > 0, mask) and torch.equal(second > 0, mask)
    pairs = torch.stack([first[mask], second[mask]], 1).unique(dim=0)
    assert len(pairs) == len(pairs[:, 0].unique()) == len(pairs[:, 1].unique())


def test_a_spiral_is_long_enough_to_be_a_test():
    assert int(spiral(31).sum()) > 31 * 31 / 3
    assert len(TORCH.labels(spiral(31))[spiral(31)].unique()) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_distances_against_brute_force(metric):
    measure = {"L2": math.hypot, "L1": lambda y, x: abs(y) + abs(x), "L-infinity": lambda y, x: max(abs(y), abs(x))}[
        metric
    ]
    masks = random_masks(height=7, width=9)
    expected = torch.zeros(masks.shape)
    for image, mask in enumerate(masks):
        outside = [(y, x) for y in range(7) for x in range(9) if not mask[y, x]]
        for y in range(7):
            for x in range(9):
                expected[image, y, x] = min(measure(y - a, x - b) for a, b in outside)
    torch.testing.assert_close(SCIPY.distances(masks, metric), expected)
    torch.testing.assert_close(TORCH.distances(masks, metric), expected)
