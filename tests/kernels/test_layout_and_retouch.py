"""The lines of Algorithm 1 and the adaptive mask against hand-computed cases."""

import pytest
import torch
from likeness.kernels.attention import attention_probabilities
from likeness.kernels.layout_and_retouch import (
    CORES,
    MaskRules,
    adaptive_mask,
    blended,
    followed,
    reference_attention,
    resized,
    thresholded,
    weights_matter,
)
from likeness.kernels.morphology import METRICS, SCIPY, TORCH

BOTH = pytest.mark.parametrize("morphology", [SCIPY, TORCH], ids=["scipy", "torch"])


def boxes(*spans, size=9):
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    for top, bottom, left, right in spans:
        mask[0, top : bottom + 1, left : right + 1] = True
    return mask


def random_masks(count=6, height=13, width=17, seed=0):
    generator = torch.Generator().manual_seed(seed)
    density = torch.linspace(0.1, 0.9, count)[:, None, None]
    return torch.rand(count, height, width, generator=generator) < density


@BOTH
def test_hand_computed_case(morphology):
    subject, attention = boxes((2, 6, 2, 6)), boxes((3, 5, 4, 8), (0, 0, 0, 0))
    mask = adaptive_mask(attention.float(), subject, MaskRules(minimum_area=4 / 81), morphology)[0]
    torch.testing.assert_close(mask[4], torch.tensor([0, 0, 0.5, 0.75, 1, 1, 1, 0.75, 0.75]))
    torch.testing.assert_close(mask[2], torch.tensor([0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0]))
    assert mask[0, 0] == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("core", CORES)
def test_scipy_and_torch_agree(metric, core):
    rules = MaskRules(minimum_area=0.03, metric=metric, core=core)
    attention, subject = random_masks(seed=1), random_masks(seed=2) & (torch.arange(17) > 6)
    first, second = (adaptive_mask(attention.float(), subject, rules, m) for m in (SCIPY, TORCH))
    torch.testing.assert_close(first, second)
    assert ((first == 0) | ((first >= 0.5) & (first <= 1))).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU has to be waited for")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("core", CORES)
def test_the_torch_path_never_waits_for_the_gpu(metric, core):
    attention, subject = random_masks(seed=1).cuda(), random_masks(seed=2).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mask = adaptive_mask(attention.float(), subject, MaskRules(metric=metric, core=core), TORCH)
        resized(mask, (5, 7))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@BOTH
def test_attention_that_does_not_touch_the_subject_is_noise(morphology):
    mask = adaptive_mask(boxes((0, 2, 0, 2)).float(), boxes((5, 8, 5, 8)), MaskRules(), morphology)
    assert torch.equal(mask > 0, boxes((5, 8, 5, 8)))


@BOTH
def test_components_that_touch_grow_the_subject(morphology):
    mask = adaptive_mask(boxes((3, 5, 3, 5)).float(), boxes((5, 8, 5, 8)), MaskRules(), morphology)
    assert torch.equal(mask > 0, boxes((3, 5, 3, 5), (5, 8, 5, 8)))
    assert mask[0, 5, 5] == 1  # both agree there


@BOTH
def test_a_thin_subject_is_kept_whole(morphology):
    """A constant distance leaves nothing to stretch."""
    line = boxes((4, 4, 0, 8))
    mask = adaptive_mask(line.float(), line, MaskRules(core="none"), morphology)
    assert torch.equal(mask, line.float())


@BOTH
def test_a_picture_that_is_all_subject(morphology):
    full = boxes((0, 8, 0, 8))
    assert torch.equal(adaptive_mask(full.float(), full, MaskRules(core="none"), morphology), torch.ones(1, 9, 9))


@BOTH
def test_background_value(morphology):
    mask = adaptive_mask(boxes().float(), boxes((5, 8, 5, 8)), MaskRules(background=0.5), morphology)
    assert mask.min() == 0.5


def test_images_do_not_see_each_other():
    attention, subject = random_masks(seed=3), random_masks(seed=4)
    for morphology in (SCIPY, TORCH):
        together = adaptive_mask(attention.float(), subject, MaskRules(), morphology)
        apart = [
            adaptive_mask(a[None].float(), s[None], MaskRules(), morphology)
            for a, s in zip(attention, subject, strict=True)
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


def test_the_threshold_of_the_rules_decides_what_is_attended():
    heat = torch.full((1, 9, 9), 0.3)
    subject = boxes((2, 6, 2, 6))
    low, high = (adaptive_mask(heat, subject, MaskRules(threshold=t), SCIPY) > 0 for t in (0.2, 0.4))
    assert low.all() and torch.equal(high, subject)


def test_followed_ends():
    own, layout = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    assert followed(own, layout) is layout
    assert torch.equal(followed(own, layout, 0.0), own)
    torch.testing.assert_close(followed(own, layout, 0.25), 0.75 * own + 0.25 * layout)


HEADS = 2


def attention(q, k, v, mask=None):
    """The attention of a layer, with a plain softmax."""
    rows, n, width = q.shape
    logits = attention_probabilities(q, k, HEADS).log()
    shares = (logits if mask is None else logits + mask).softmax(-1)
    return (shares @ v.view(rows, -1, HEADS, width // HEADS).transpose(1, 2)).transpose(1, 2).reshape(rows, n, width)


def layer(own=3, counts=(2, 4), width=4):
    torch.manual_seed(0)
    total = own + sum(counts)
    return torch.randn(2, 3, width), torch.randn(2, total, width), torch.randn(2, total, width), counts


def test_references_replace_the_targets_own_keys():
    q, k, v, counts = layer()
    made = reference_attention(q, k, v, counts, (1.0, 1.0), attention)
    assert torch.equal(made, attention(q, k[:, 3:], v[:, 3:]))
    assert torch.equal(made, reference_attention(q, k[:, 3:], v[:, 3:], counts, (1.0, 1.0), attention))


def test_appended_references_keep_the_targets_own_keys():
    q, k, v, counts = layer()
    assert torch.equal(reference_attention(q, k, v, counts, (1.0, 1.0), attention, append=True), attention(q, k, v))


def test_strength_mixes_with_the_targets_own_attention():
    q, k, v, counts = layer()
    own, full = attention(q, k[:, :3], v[:, :3]), reference_attention(q, k, v, counts, (1.0, 1.0), attention)
    half = reference_attention(q, k, v, counts, (1.0, 1.0), attention, strength=0.5)
    torch.testing.assert_close(half, (own + full) / 2)


@pytest.mark.parametrize("append", [False, True])
def test_a_weight_of_two_is_the_reference_twice(append):
    q, k, v, _ = layer(counts=(2, 4))
    twice = [torch.cat([x, x[:, 5:]], 1) for x in (k, v)]
    made = reference_attention(q, k, v, (2, 4), (1.0, 2.0), attention, append=append)
    torch.testing.assert_close(
        made, reference_attention(q, *twice, (2, 4, 4), (1.0, 1.0, 1.0), attention, append=append)
    )


def test_which_weights_matter():
    assert weights_matter((1.0, 2.0), False) and weights_matter((2.0, 2.0), True)
    assert not weights_matter((2.0, 2.0), False) and not weights_matter((1.0,), True) and not weights_matter((), True)
