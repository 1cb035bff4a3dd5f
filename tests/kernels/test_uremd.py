"""UREMD against the whole cost matrix, hand-computed cases, and its properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from likeness.kernels import uremd as module
from likeness.kernels.uremd import (
    AUTO,
    DIRECTIONS,
    GEN_TO_REF,
    MAX,
    REF_TO_GEN,
    TORCH,
    TRITON,
    cosine_cost,
    nearest,
    uremd,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

EACH_DIRECTION = pytest.mark.parametrize("direction", DIRECTIONS)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reference(generated, palette, direction, mask=None):
    """Equations 8 and 9 as they are printed, on the whole matrix."""
    cost = cosine_cost(generated if mask is None else generated[mask], palette)
    means = {GEN_TO_REF: cost.amin(1).mean(), REF_TO_GEN: cost.amin(0).mean()}
    return max(means.values()) if direction == MAX else means[direction]


def value_and_gradient(loss, generated):
    generated = generated.clone().requires_grad_()
    value = loss(generated)
    return value.detach(), torch.autograd.grad(value, generated)[0]


def assert_equals_the_reference(generated, palette, direction, mask=None, **options):
    found = value_and_gradient(lambda g: uremd(g, palette, direction, mask, **options), generated)
    torch.testing.assert_close(found, value_and_gradient(lambda g: reference(g, palette, direction, mask), generated))


class Sizes(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = [
            x.untyped_storage().nbytes() // x.element_size() for x in tree_leaves(result) if isinstance(x, torch.Tensor)
        ]
        self.largest = max([self.largest, *made])
        return result


def test_cosine_cost_equals_a_loop():
    generated, palette = random(3, 4), random(2, 4, seed=1)
    expected = [
        [
            1 - sum(a * b for a, b in zip(g, p, strict=True)) / (math.hypot(*g) * math.hypot(*p))
            for p in palette.tolist()
        ]
        for g in generated.tolist()
    ]
    torch.testing.assert_close(cosine_cost(generated, palette), torch.tensor(expected))


def test_hand_computed_case():
    generated, palette = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    minima = (0 + 1 + (1 - math.sqrt(0.5))) / 3
    assert minima == pytest.approx(0.430964, abs=1e-6)
    assert float(uremd(generated, palette)) == pytest.approx(minima, abs=1e-6)
    assert float(uremd(generated, palette, REF_TO_GEN)) == pytest.approx(0.5, abs=1e-6)
    assert float(uremd(generated, palette, MAX)) == pytest.approx(0.5, abs=1e-6)


def test_hand_computed_gradient():
    """1 - cos(g, p) with g = (3, 4), p = (1, 0): -(p / |p| - cos g / |g|) / |g| = -((1, 0) - 0.6 (0.6, 0.8)) / 5."""
    _, gradient = value_and_gradient(lambda g: uremd(g, torch.tensor([[2.0, 0.0]])), torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(gradient, torch.tensor([[-0.128, 0.096]]))


@settings(max_examples=40)
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    c=st.integers(1, 8),
    direction=st.sampled_from(DIRECTIONS),
    masked=st.booleans(),
    budget=st.integers(1, 2000),
    seed=st.integers(0, 99),
)
def test_value_and_gradient_equal_the_matrix(n, m, c, direction, masked, budget, seed):
    # In float64, and with more than one channel, where no two pairs are equally near.
    generated, palette = (
        random(n, c + 1, seed=seed, dtype=torch.float64),
        random(m, c + 1, seed=seed + 100, dtype=torch.float64),
    )
    mask = None
    if masked:
        mask = random(n, seed=seed + 200) > 0
        mask[seed % n] = True
    assert_equals_the_reference(generated, palette, direction, mask, budget=budget)


@EACH_DIRECTION
def test_gradcheck(direction):
    generated, palette = random(5, 3, dtype=torch.float64).requires_grad_(), random(4, 3, seed=1, dtype=torch.float64)
    mask = torch.tensor([True, False, True, True, False])
    assert uremd(generated, palette, direction).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda g: uremd(g, palette, direction), generated)
    assert torch.autograd.gradcheck(lambda g: uremd(g, palette, direction, mask), generated)


@settings(max_examples=25)
@given(
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 99),
    direction=st.sampled_from(DIRECTIONS),
)
def test_lengths_and_order_do_not_matter(n, m, scale, seed, direction):
    generated, palette = random(n, 6, seed=seed), random(m, 6, seed=seed + 100)
    expected = uremd(generated, palette, direction)
    lengths = scale * (0.5 + random(n, 1, seed=seed + 200).abs())
    torch.testing.assert_close(uremd(lengths * generated, palette / scale, direction), expected)
    shuffled = generated[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]
    torch.testing.assert_close(uremd(shuffled, palette.flip(0), direction), expected)


@settings(max_examples=25)
@given(n=st.integers(1, 12), m=st.integers(1, 12), extra=st.integers(1, 12), seed=st.integers(0, 99))
def test_more_palette_never_costs_more(n, m, extra, seed):
    generated, palette, more = random(n, 6, seed=seed), random(m, 6, seed=seed + 100), random(extra, 6, seed=seed + 200)
    assert uremd(generated, torch.cat([palette, more])) <= uremd(generated, palette) + 1e-6


@EACH_DIRECTION
def test_a_set_is_at_no_distance_from_itself(direction):
    tokens = random(30, 8)
    assert float(uremd(tokens, tokens, direction)) == pytest.approx(0, abs=1e-6)
    assert float(uremd(tokens, -tokens[:1], direction)) > 0.1


@pytest.mark.parametrize("masked", [False, True])
def test_chunks_agree_exactly(masked):
    tokens, candidates = random(70, 16, dtype=torch.float64), random(90, 16, seed=1, dtype=torch.float64)
    mask = random(90, seed=2) > 0 if masked else None
    expected = nearest(tokens, candidates, mask, budget=10**9)
    cost = cosine_cost(tokens, candidates)
    assert torch.equal(expected, (cost if mask is None else cost.masked_fill(~mask, math.inf)).argmin(1))
    for budget in (1, 7, 89, 90, 91, 1000, 6300):
        assert torch.equal(nearest(tokens, candidates, mask, budget=budget), expected), budget


@EACH_DIRECTION
def test_the_gradient_goes_to_the_generated_tokens_alone(direction):
    generated, palette = random(6, 4).requires_grad_(), random(5, 4, seed=1).requires_grad_()
    uremd(generated, palette, direction).backward()
    assert palette.grad is None and generated.grad.abs().sum() > 0


def test_only_tokens_that_are_matched_get_a_gradient():
    """Both palette entries are nearest to the first token."""
    generated, palette = torch.tensor([[1.0, 0.1], [-1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.5]])
    _, gradient = value_and_gradient(lambda g: uremd(g, palette, REF_TO_GEN), generated)
    assert gradient[0].abs().sum() > 0 and not gradient[1].any()


@EACH_DIRECTION
def test_masked_equals_gathered(direction):
    generated, palette, mask = random(20, 5), random(9, 5, seed=1), random(20, seed=2) > 0
    masked = value_and_gradient(lambda g: uremd(g, palette, direction, mask), generated)
    gathered = value_and_gradient(lambda g: uremd(g[mask], palette, direction), generated)
    torch.testing.assert_close(masked, gathered)
    assert 0 < mask.sum() < 20 and not masked[1][~mask].any()


def test_a_token_outside_the_mask_is_not_found():
    generated, palette = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    mask = torch.tensor([False, True])
    assert float(uremd(generated, palette, REF_TO_GEN)) == 0
    assert float(uremd(generated, palette, REF_TO_GEN, mask)) == float(uremd(generated, palette, MAX, mask)) == 1


@EACH_DIRECTION
@pytest.mark.parametrize("empty", ["mask", "generated", "palette"])
def test_nothing_to_compare(direction, empty):
    generated = random(0 if empty == "generated" else 4, 3)
    palette = random(0 if empty == "palette" else 5, 3)
    mask = torch.zeros(4, dtype=torch.bool) if empty == "mask" else None
    value, gradient = value_and_gradient(lambda g: uremd(g, palette, direction, mask), generated)
    assert float(value) == 0 and torch.equal(gradient, torch.zeros_like(generated))


@EACH_DIRECTION
def test_a_token_without_length(direction):
    generated, palette = random(4, 3), torch.cat([random(3, 3, seed=1), torch.zeros(1, 3)])
    generated[1] = 0
    value, gradient = value_and_gradient(lambda g: uremd(g, palette, direction), generated)
    assert value.isfinite() and gradient.isfinite().all() and not gradient[1].any()
    torch.testing.assert_close(cosine_cost(generated, palette)[1], torch.ones(4))


@EACH_DIRECTION
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_fp32(dtype, direction):
    generated, palette = (
        (300 * random(8, 64)).to(dtype),
        random(7, 64, seed=1, dtype=dtype),
    )  # lengths that fp16 cannot hold squared
    assert dtype != torch.float16 or generated.square().sum(1).isinf().all()
    value, gradient = value_and_gradient(lambda g: 2**10 * uremd(g, palette, direction), generated)
    expected, full_gradient = value_and_gradient(
        lambda g: 2**10 * uremd(g, palette.float(), direction), generated.float()
    )
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, full_gradient.to(dtype), rtol=1e-2, atol=1e-6)


def test_mixed_dtypes_meet_in_the_wider_one():
    generated, palette = random(8, 16), random(7, 16, seed=1, dtype=torch.float16)
    torch.testing.assert_close(uremd(generated, palette), reference(generated, palette.float(), GEN_TO_REF))


def test_autocast_changes_nothing():
    generated, palette = random(40, 64), random(50, 64, seed=1)
    expected = uremd(generated, palette), nearest(generated, palette), cosine_cost(generated, palette)
    with torch.autocast("cpu", torch.bfloat16):
        found = uremd(generated, palette), nearest(generated, palette), cosine_cost(generated, palette)
        assert (generated @ palette.T).dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@EACH_DIRECTION
def test_what_was_recorded_in_inference_mode(direction):
    generated = random(20, 5)
    with torch.inference_mode():
        palette, mask = random(9, 5, seed=1), random(20, seed=2) > 0
    assert palette.is_inference() and mask.is_inference()
    assert_equals_the_reference(generated, palette.clone(), direction, mask.clone())
    found = value_and_gradient(lambda g: uremd(g, palette, direction, mask), generated)
    torch.testing.assert_close(
        found, value_and_gradient(lambda g: uremd(g, palette.clone(), direction, mask.clone()), generated)
    )


@EACH_DIRECTION
def test_memory_is_that_of_the_tokens(direction):
    n, m, c, budget = 500, 400, 8, 2000
    generated, palette, mask = random(n, c).requires_grad_(), random(m, c, seed=1), random(n, seed=2) > 0
    with Sizes() as sizes:
        uremd(generated, palette, direction, mask, budget=budget).backward()
    assert sizes.largest <= n * c
    with Sizes() as sizes:
        reference(generated, palette, direction).backward()
    assert sizes.largest >= n * m


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"palette": torch.zeros(2, 4)}, r"\[2, 3\] and \[2, 4\]"),
        ({"palette": torch.zeros(3)}, r"palette \[m, c\]"),
        ({"generated_mask": torch.zeros(3, dtype=torch.bool)}, r"bool \[2\].*\[3\]"),
        ({"generated_mask": torch.zeros(2)}, "float32"),
        ({"direction": "gen2ref"}, "gen_to_ref, ref_to_gen, max"),
        ({"implementation": "cuda"}, "auto, torch, triton"),
        ({"generated": torch.zeros(2, 3, dtype=torch.float64), "implementation": TRITON}, "float64"),
    ],
)
def test_wrong_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        uremd(**{"generated": torch.zeros(2, 3), "palette": torch.zeros(2, 3), **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes Triton")
def test_the_processor_takes_pytorch(monkeypatch):
    monkeypatch.setattr(module, "_triton_works", lambda *_: pytest.fail("Triton was tried on a processor"))
    generated, palette = random(4, 3), random(5, 3, seed=1)
    assert torch.equal(uremd(generated, palette, implementation=AUTO), uremd(generated, palette, implementation=TORCH))


def test_a_weight_says_how_readily_an_entry_is_found_and_not_what_it_costs():
    generated, palette = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])  # costs .2929 and 1
    costs = cosine_cost(generated, palette)[0]
    assert uremd(generated, palette, palette_weight=torch.tensor([1.0, 3.0])) == pytest.approx(float(costs[0]))
    assert uremd(generated, palette, palette_weight=torch.tensor([1.0, 4.0])) == pytest.approx(float(costs[1]))


@pytest.mark.parametrize("budget", [7, 2**20])
def test_weighted_search_is_the_brute_force_one(budget):
    generator = torch.Generator().manual_seed(3)
    generated, palette = torch.randn(17, 5, generator=generator), torch.randn(23, 5, generator=generator)
    weight = torch.rand(23, generator=generator) + 0.2
    costs = cosine_cost(generated, palette)
    wanted = costs.gather(1, (costs / weight).argmin(1, keepdim=True)).mean()
    torch.testing.assert_close(uremd(generated, palette, budget=budget, palette_weight=weight), wanted)
