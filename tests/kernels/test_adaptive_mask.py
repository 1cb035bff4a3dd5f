"""The adaptive mask against the hand-computed case, brute force, and scipy against torch."""

import math

import pytest
import torch
from likeness.kernels.adaptive_mask import (
    CORES,
    METRICS,
    SCIPY,
    TORCH,
    MaskRules,
    adaptive_mask,
    blended,
    resized,
    thresholded,
)

BOTH = pytest.mark.parametrize("morphology", [SCIPY, TORCH], ids=["scipy", "torch"])


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


@BOTH
def test_hand_computed_case(morphology):
    subject, attention = boxes((2, 6, 2, 6)), boxes((3, 5, 4, 8), (0, 0, 0, 0))
    mask = adaptive_mask(attention, subject, MaskRules(minimum_area=4 / 81), morphology)[0]
    torch.testing.assert_close(mask[4], torch.tensor([0, 0, 0.5, 0.75, 1, 1, 1, 0.75, 0.75]))
    torch.testing.assert_close(mask[2], torch.tensor([0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0]))
    assert mask[0, 0] == 0


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


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("core", CORES)
def test_scipy_and_torch_agree(metric, core):
    rules = MaskRules(minimum_area=0.03, metric=metric, core=core)
    attention, subject = random_masks(seed=1), random_masks(seed=2) & (torch.arange(17) > 6)
    first, second = (adaptive_mask(attention, subject, rules, m) for m in (SCIPY, TORCH))
    torch.testing.assert_close(first, second)
    assert ((first == 0) | ((first >= 0.5) & (first <= 1))).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU has to be waited for")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("core", CORES)
def test_the_torch_path_never_waits_for_the_gpu(metric, core):
    attention, subject = random_masks(seed=1).cuda(), random_masks(seed=2).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mask = adaptive_mask(attention, subject, MaskRules(metric=metric, core=core), TORCH)
        resized(mask, (5, 7))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@BOTH
def test_attention_that_does_not_touch_the_subject_is_noise(morphology):
    mask = adaptive_mask(boxes((0, 2, 0, 2)), boxes((5, 8, 5, 8)), MaskRules(), morphology)
    assert torch.equal(mask > 0, boxes((5, 8, 5, 8)))


@BOTH
def test_components_that_touch_grow_the_subject(morphology):
    mask = adaptive_mask(boxes((3, 5, 3, 5)), boxes((5, 8, 5, 8)), MaskRules(), morphology)
    assert torch.equal(mask > 0, boxes((3, 5, 3, 5), (5, 8, 5, 8)))
    assert mask[0, 5, 5] == 1  # both agree there


@BOTH
def test_a_thin_subject_is_kept_whole(morphology):
    """A constant distance leaves nothing to stretch."""
    line = boxes((4, 4, 0, 8))
    mask = adaptive_mask(line, line, MaskRules(core="none"), morphology)
    assert torch.equal(mask, line.float())


@BOTH
def test_a_picture_that_is_all_subject(morphology):
    assert torch.equal(
        adaptive_mask(boxes((0, 8, 0, 8)), boxes((0, 8, 0, 8)), MaskRules(core="none"), morphology), torch.ones(1, 9, 9)
    )


@BOTH
def test_background_value(morphology):
    mask = adaptive_mask(boxes(), boxes((5, 8, 5, 8)), MaskRules(background=0.5), morphology)
    assert mask.min() == 0.5


def test_images_do_not_see_each_other():
    attention, subject = random_masks(seed=3), random_masks(seed=4)
    for morphology in (SCIPY, TORCH):
        together = adaptive_mask(attention, subject, MaskRules(), morphology)
        apart = [
            adaptive_mask(a[None], s[None], MaskRules(), morphology) for a, s in zip(attention, subject, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(apart))


def test_thresholded_and_resized():
    maps = torch.tensor([[[0.05, 0.1], [0.2, 1.0]]])
    assert thresholded(maps, 0.1).tolist() == [[[False, False], [True, True]]]
    column = resized(torch.eye(4)[None], (2, 2))
    assert column.shape == (1, 4, 1) and torch.equal(
        resized(torch.eye(4)[None], (4, 4))[0, :, 0], torch.eye(4).flatten()
    )
    assert column.sum() == pytest.approx(1.0, abs=0.3)


def test_blended_ends():
    target, layout = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    assert torch.equal(blended(target, layout, torch.ones(1, 4, 1)), target)
    assert torch.equal(blended(target, layout, torch.zeros(1, 4, 1)), layout)
    torch.testing.assert_close(blended(target, layout, torch.full((1, 4, 1), 0.25)), 0.25 * target + 0.75 * layout)
