"""Pick-and-Draw's kernels against hand-computed cases, brute force, and the sampling steps that they have to fit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from likeness.kernels.heatmaps import principal_colors
from likeness.kernels.pick_and_draw import (
    RAW,
    denoised_shift,
    gaussian_smoothed,
    layout_loss,
    saliency_mask,
    scaled_to,
    score,
    step_of_gradient,
)

CENTER, EDGE, CORNER = 0.3319, 0.1221, 0.0449
SIGMAS = st.floats(0.01, 30.0)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_saliency_by_hand():
    """Means 0, 1, 2 and 2 become 0, 0.5, 1 and 1; the threshold itself is not above the threshold."""
    first, second = torch.tensor([[[0.0, 1.0], [2.0, 4.0]]]), torch.tensor([[[0.0, 1.0], [2.0, 0.0]]])
    assert saliency_mask([first, second], (2, 2), 0.5).tolist() == [[[False, False], [True, True]]]
    assert saliency_mask([first, second], (2, 2), 0.4).tolist() == [[[False, True], [True, True]]]


def test_a_coarse_map_is_brought_to_the_size_asked_for():
    fine, coarse = maps(1, 4, 6), maps(1, 2, 3, seed=1)
    expected = fine + torch.nn.functional.interpolate(coarse[None], (4, 6), mode="bilinear")[0]
    expected = (expected - expected.min()) / (expected.max() - expected.min()) > 0.5
    found = saliency_mask([fine, coarse], (4, 6), 0.5)
    assert torch.equal(found, expected) and 0 < int(found.sum()) < 24
    assert not torch.equal(found, saliency_mask([fine], (4, 6), 0.5))


def test_a_constant_map_has_no_subject():
    assert not saliency_mask([torch.full((2, 3, 3), 0.7)], (3, 3), 0.0).any()


def test_saliency_of_each_image_is_its_own_and_has_no_graph():
    pair = maps(2, 5, 5).requires_grad_()
    found = saliency_mask([pair * torch.tensor([1.0, 100.0]).view(2, 1, 1)], (5, 5), 0.6)
    assert not found.requires_grad and 0 < int(found[0].sum()) < 25
    assert torch.equal(found, torch.cat([saliency_mask([m[None]], (5, 5), 0.6) for m in pair]))


def test_a_drawn_mask_gets_the_size_and_the_sum_of_the_generated_map():
    mask = torch.zeros(1, 8, 8)
    mask[:, 4:, :2] = 1  # the left quarter of the lower half
    found = torch.stack([torch.full((4, 4), 0.25), torch.full((4, 4), 0.5)]).requires_grad_()
    expected = torch.zeros(4, 4)
    expected[2:, 0] = 1
    scaled = scaled_to(mask, found)
    torch.testing.assert_close(scaled, torch.stack([expected * 2, expected * 4]))
    assert not scaled.requires_grad


def test_the_score_is_the_weighted_sum_with_its_graph():
    losses = [torch.tensor([1.0, 2.0]).requires_grad_(), torch.tensor([3.0, 5.0])]
    total = score([(2.0, losses[0]), (0.5, losses[1])])
    assert total.tolist() == [3.5, 6.5] and score([(2.0, losses[0])]).tolist() == [2.0, 4.0]
    assert torch.autograd.grad(total.sum(), losses[0])[0].tolist() == [2.0, 2.0]


def test_the_kernel_of_three():
    dot = torch.zeros(1, 5, 5)
    dot[0, 2, 2] = 1
    rows = [
        [0, 0, 0, 0, 0],
        [0, CORNER, EDGE, CORNER, 0],
        [0, EDGE, CENTER, EDGE, 0],
        [0, CORNER, EDGE, CORNER, 0],
        [0, 0, 0, 0, 0],
    ]
    torch.testing.assert_close(gaussian_smoothed(dot)[0], torch.tensor(rows, dtype=torch.float32), rtol=0, atol=5e-5)


def reflected(i, n):
    return -i if i < 0 else 2 * (n - 1) - i if i >= n else i


@pytest.mark.parametrize(("size", "width"), [(3, 0.5), (3, 3.0), (5, 1.0)])
def test_smoothing_against_brute_force(size, width):
    found, reach = maps(2, 5, 4), size // 2
    span = range(-reach, reach + 1)
    weights = {(y, x): math.exp(-(y * y + x * x) / (4 * width**2)) for y in span for x in span}
    expected = torch.zeros(2, 5, 4)
    for y in range(5):
        for x in range(4):
            for (dy, dx), weight in weights.items():
                expected[:, y, x] += (
                    weight / sum(weights.values()) * found[:, reflected(y + dy, 5), reflected(x + dx, 4)]
                )
    torch.testing.assert_close(gaussian_smoothed(found, size, width), expected)


def test_smoothing_keeps_the_sum_of_what_is_inside():
    inside = torch.nn.functional.pad(maps(2, 4, 3), (2, 2, 2, 2))  # away from the edges, which reflect
    smooth = gaussian_smoothed(inside)
    torch.testing.assert_close(smooth.sum((1, 2)), inside.sum((1, 2)))
    assert float((smooth - inside).abs().max()) > 0.1
    torch.testing.assert_close(gaussian_smoothed(torch.full((1, 2, 2), 0.3)), torch.full((1, 2, 2), 0.3))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_maps_without_neighbors_stay_as_they_are(shape):
    tiny = maps(2, *shape)
    assert torch.equal(gaussian_smoothed(tiny), tiny)
    assert not torch.equal(gaussian_smoothed(maps(2, 2, 2)), maps(2, 2, 2))


def test_layout_loss_by_hand():
    """|2| / 1 of a map of one pixel; |(1, 1, 1, 1)| / 2 of a row, which has no neighbors either; the mean of both."""
    found, wanted = [torch.full((1, 1, 1), 3.0), torch.full((1, 1, 4), 2.0)], [torch.ones(1, 1, 1), torch.ones(1, 1, 4)]
    torch.testing.assert_close(layout_loss(found[:1], wanted[:1]), torch.tensor([2.0]))
    torch.testing.assert_close(layout_loss(found[1:], wanted[1:]), torch.tensor([1.0]))
    torch.testing.assert_close(layout_loss(found, wanted), torch.tensor([1.5]))


def test_layout_loss_of_smoothed_maps_by_hand():
    dot = torch.zeros(1, 5, 5)
    dot[0, 2, 2] = 2.0
    norm = 2 * math.sqrt(CENTER**2 + 4 * EDGE**2 + 4 * CORNER**2)
    torch.testing.assert_close(layout_loss([dot], [torch.zeros(1, 5, 5)]), torch.tensor([norm / 5]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equal_maps_are_no_reason_to_move(dtype):
    found = maps(2, 4, 4).to(dtype).requires_grad_()
    loss = layout_loss([found], [found.detach()])
    loss.sum().backward()
    assert loss.dtype == torch.float32 and float(loss.detach().abs().max()) < 1e-9
    assert found.grad is not None and float(found.grad.abs().max()) < 1e-5


def test_layout_loss_pulls_each_map_to_its_own_template_alone():
    found, wanted = (
        [maps(3, 4, 4).requires_grad_(), maps(3, 2, 5, seed=1).requires_grad_()],
        [maps(3, 4, 4, seed=2), maps(3, 2, 5, seed=3)],
    )
    losses = layout_loss(found, [w.requires_grad_() for w in wanted])
    slopes = torch.autograd.grad(losses[1], found, retain_graph=True)
    assert all(not s[[0, 2]].any() and s[1].any() for s in slopes)
    assert torch.autograd.grad(losses.sum(), wanted[0], allow_unused=True) == (None,)
    alone = layout_loss([f[1:2] for f in found], [w[1:2] for w in wanted])
    torch.testing.assert_close(losses[1:2], alone)
    with torch.no_grad():
        nearer = layout_loss([f - 0.01 * s for f, s in zip(found, slopes, strict=True)], wanted)
    assert nearer[1] < losses[1] and torch.equal(nearer[[0, 2]], losses[[0, 2]])


@pytest.mark.parametrize("size", [0.0, 0.02, 1.5])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_relative_step_is_a_part_of_each_latents_norm(size, scale):
    latent, gradient = (
        noise(3, 4, 5, 6) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1, 1),
        scale * noise(3, 4, 5, 6, seed=1),
    )
    step = step_of_gradient(latent, gradient, 3.0, size)
    torch.testing.assert_close(step.flatten(1).norm(dim=1), size * latent.flatten(1).norm(dim=1))
    if size:
        directions = [v.flatten(1) / v.flatten(1).norm(dim=1, keepdim=True) for v in (step, gradient)]
        torch.testing.assert_close(*directions)


def test_a_relative_step_ends_where_a_linear_loss_does():
    """Latents of norm 5, steps of 0.1 of it. Of two slopes, 3 is far from ending a loss of 9; 0.5 ends one of 0.01
    after 0.02."""
    latent = torch.zeros(2, 1, 1, 2)
    latent[:, 0, 0] = torch.tensor([3.0, 4.0])
    gradient = torch.tensor([[3.0, 0.0], [0.5, 0.0]]).view(2, 1, 1, 2)
    step = step_of_gradient(latent, gradient, 1.0, 0.1, loss=torch.tensor([9.0, 0.01]))
    assert step.flatten().tolist() == pytest.approx([0.5, 0.0, 0.02, 0.0])
    assert torch.equal(step[:1], step_of_gradient(latent, gradient, 1.0, 0.1)[:1])
    assert torch.equal(
        *(step_of_gradient(latent, gradient, 1.0, 0.1, kind=RAW, loss=loss) for loss in (None, torch.zeros(2)))
    )


@pytest.mark.parametrize("kind", ["relative", "raw"])
def test_no_gradient_no_step(kind):
    gradient = noise(2, 4, 3, 3)
    gradient[0] = 0
    step = step_of_gradient(noise(2, 4, 3, 3, seed=1), gradient, 2.0, 0.1, kind)
    assert not step[0].any() and step[1].any()


@given(SIGMAS, st.floats(0.1, 100.0))
def test_a_raw_step_is_the_papers_step_of_the_scaled_latent(sigma, size):
    """Papers move z = x / sqrt(1 + sigma^2) along its gradient, sqrt(1 + sigma^2) times that of x.

    The step of x has the root twice.
    """
    root = math.sqrt(1 + sigma**2)

    def loss_of(x):
        return (x / root).sin().sum() + (x / root)[0, 0, 0, 0] ** 2

    x = sigma * noise(1, 4, 3, 3)
    z = (x / root).requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(z * root), z)
    expected = (z.detach() - size * slope) * root
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(x), x)
    x = x.detach()
    torch.testing.assert_close(x - step_of_gradient(x, gradient, sigma, size, RAW), expected)


def euler(x, denoised, sigma, next_sigma):
    """The Euler step of k-diffusion."""
    return x + (x - denoised) / sigma * (next_sigma - sigma)


def ddim(x, denoised, sigma, next_sigma):
    """DDIM (arXiv 2010.02502, eq. 12, eta = 0) on z = sqrt(a) x, with a = 1 / (1 + sigma^2)."""
    a, next_a = 1 / (1 + sigma**2), 1 / (1 + next_sigma**2)
    z = math.sqrt(a) * x
    noise_estimate = (z - math.sqrt(a) * denoised) / math.sqrt(1 - a)
    next_z = math.sqrt(next_a) * denoised + math.sqrt(1 - next_a) * noise_estimate
    return next_z / math.sqrt(next_a)


@pytest.mark.parametrize("move", [euler, ddim])
@given(sigma=SIGMAS, ratio=st.one_of(st.just(0.0), st.floats(0.001, 0.99)), size=st.floats(0.0, 0.5))
def test_the_sampler_lands_where_it_would_from_the_guided_latent(move, sigma, ratio, size):
    x, denoised, next_sigma = sigma * noise(2, 4, 3, 3), noise(2, 4, 3, 3, seed=1), sigma * ratio
    step = step_of_gradient(x, noise(2, 4, 3, 3, seed=2), sigma, size)
    guided = move(x - step, denoised, sigma, next_sigma)
    found = move(x, denoised + denoised_shift(step, sigma, next_sigma), sigma, next_sigma)
    torch.testing.assert_close(found, guided, rtol=1e-9, atol=1e-9)
    if not ratio:
        assert torch.equal(found, move(x, denoised, sigma, next_sigma))  # the last step forgets where it came from


def test_without_the_shift_the_sampler_would_land_elsewhere():
    x, denoised = 3 * noise(1, 4, 3, 3), noise(1, 4, 3, 3, seed=1)
    step = step_of_gradient(x, noise(1, 4, 3, 3, seed=2), 3.0, 0.05)
    assert float((euler(x, denoised, 3.0, 2.0) - euler(x - step, denoised, 3.0, 2.0)).norm()) > 0.02 * float(x.norm())


def test_principal_colors_are_the_three_widest_directions():
    """Features spread over three known directions, rotated in eight dimensions. The sign of a direction is free."""
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(40, 3, generator=generator)
    along = torch.linalg.qr(along - along.mean(0))[0]  # uncorrelated
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    features = (along * torch.tensor([9.0, 3.0, 1.0])) @ rotation[:3] + 5
    found = principal_colors(features)
    assert found.shape == (40, 3) and found.amin() == 0 and found.amax() == 1
    for i in range(3):
        expected = (along[:, i] - along[:, i].min()) / (along[:, i].max() - along[:, i].min())
        error = min(float((found[:, i] - e).abs().max()) for e in (expected, 1 - expected))
        assert error < 1e-4


def test_principal_colors_of_too_little():
    assert not principal_colors(torch.full((5, 8), 0.3)).any()
    assert principal_colors(torch.ones(1, 8)).tolist() == [[0, 0, 0]]
    two = principal_colors(torch.tensor([[0.0, 1.0], [1.0, 3.0], [2.0, 1.0]]).half())
    assert two.shape == (3, 3) and two.dtype == torch.float32 and not two[:, 2].any() and two[:, :2].any(0).all()
