"""UREMD on the whole cost matrix, as its equations are written."""

import pytest
import torch
from likeness.kernels.uremd import (
    DIRECTIONS,
    GEN_TO_REF,
    MAX,
    REF_TO_GEN,
    cosine_cost,
    uremd,
)

EACH_DIRECTION = pytest.mark.parametrize("direction", DIRECTIONS)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reference(generated, palette, direction, mask=None):
    """Equations 8 and 9 (arXiv 2401.16762) on the whole matrix."""
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
