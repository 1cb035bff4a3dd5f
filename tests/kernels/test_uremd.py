"""UREMD against the whole cost matrix, hand-computed cases, and its properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from likeness.kernels.uremd import (
    DIRECTIONS,
    MAX,
    REF_TO_GEN,
    cosine_cost,
    nearest,
    uremd,
)
from likeness.tests.kernels.uremd_by_matrix import (
    EACH_DIRECTION,
    assert_equals_the_reference,
    random,
    reference,
    value_and_gradient,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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
def test_memory_is_that_of_the_tokens(direction):
    n, m, c, budget = 500, 400, 8, 2000
    generated, palette, mask = random(n, c).requires_grad_(), random(m, c, seed=1), random(n, seed=2) > 0
    with Sizes() as sizes:
        uremd(generated, palette, direction, mask, budget=budget).backward()
    assert sizes.largest <= n * c
    with Sizes() as sizes:
        reference(generated, palette, direction).backward()
    assert sizes.largest >= n * m


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
