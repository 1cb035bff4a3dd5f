"""Convolutions and attention as plain products, where a CPU's own kernels are slow."""

import pytest
import torch
import torch.nn.functional as F
from likeness.patching.host import frozen_autograd, frozen_layers, frozen_products
from likeness.patching.host.frozen_products import attends_by_products, attention_by_products, by_columns
from likeness.tests.patching.host.gradients import (
    error,
    inference_model,
    noisy,
    ordinary,
    ordinary_model,
    ours,
    untouched,
    weights_of,
)
from torch.autograd.graph import saved_tensors_hooks

HEADS = 4


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "bias"), [(3, 1, 1, 1, True), (3, 2, 1, 1, False), (1, 1, 0, 1, True)]
)
def test_a_convolution_is_one_product(kernel, stride, padding, dilation, bias):
    layer = torch.nn.Conv2d(6, 5, kernel, stride, padding, dilation, bias=bias).requires_grad_(False).double()
    x, kept = torch.randn(3, 6, 5, 4, dtype=torch.float64).requires_grad_(), []
    expected = layer(x)
    with saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        found = by_columns(layer, x, layer.weight, layer.bias)
    slope = torch.randn(expected.shape, dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(result, x, slope)[0] for result in (found, expected)))
    assert {tensor.data_ptr() for tensor in kept} == {layer.weight.data_ptr()}


def attended(function, dtype, tokens, keys, constant):
    generator = torch.Generator().manual_seed(4)
    given = [torch.randn(2, n, 32, generator=generator).to(torch.bfloat16).to(dtype) for n in (tokens, keys, keys)]
    q, k, v = (x.requires_grad_(not constant or i == 0) for i, x in enumerate(given))
    result = function(q, k, v)
    return result, *torch.autograd.grad(result.square().sum(), [x for x in (q, k, v) if x.requires_grad])


def exact(q, k, v):
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_attention_by_products_is_exact_to_rounding(dtype, most, constant):
    found = attended(lambda *qkv: attention_by_products(*qkv, HEADS), dtype, 9, 7, constant)
    expected = attended(exact, torch.float64, 9, 7, constant)
    for mine, wanted in zip(found, expected, strict=True):
        assert mine.dtype == dtype and error(mine.detach().double(), wanted.detach()) < most


def test_attention_by_products_is_for_bfloat16_and_for_gradients():
    q, k = torch.zeros(1, 512, 8).bfloat16(), torch.zeros(1, 256, 8).bfloat16()
    assert not attends_by_products(q, k, k)
    q.requires_grad_()
    assert attends_by_products(q, k, k) and not attends_by_products(q.float(), k.float(), k.float())
    assert not attends_by_products(q, k[..., None], k[..., None])  # with heads apart
    assert not attends_by_products(q, k.repeat(1, 2, 1), k.repeat(1, 2, 1))  # as many as a picture has
    assert not attends_by_products(q, k.requires_grad_(), k)
    assert attends_by_products(q[:, :128], k, k)
    with torch.no_grad():
        assert not attends_by_products(q, k.detach(), k.detach())


@pytest.mark.usefixtures("as_the_host_runs")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_as_near_to_the_exact_gradient_as_autograd(dtype, monkeypatch):
    model, plain, x = inference_model("sd1", dtype), ordinary_model("sd1", dtype), noisy(2)
    double = ordinary_model("sd1", torch.float64)
    with torch.inference_mode(False), torch.no_grad():
        pairs = zip(double.model.diffusion_model.parameters(), plain.model.diffusion_model.parameters(), strict=True)
        for mine, given in pairs:
            mine.copy_(given)
    columns, before = [], weights_of(model.model.diffusion_model)
    monkeypatch.setattr(frozen_products, "_LARGE_WEIGHT", 0)
    monkeypatch.setattr(frozen_layers, "by_columns", lambda *given: columns.append(1) or by_columns(*given))
    found = ours(model, x).latents.double()
    untouched(model.model.diffusion_model, before)
    expected = ordinary(double, x, scale=1024.0).double()
    assert columns and error(found, expected) < 1.3 * error(ordinary(plain, x, scale=1024.0).double(), expected)
    monkeypatch.setattr(frozen_autograd, "attends_by_products", lambda *given: False)
    monkeypatch.setattr(frozen_layers, "has_few_positions", lambda *given: False)
    assert torch.equal(ours(model, x).latents, ordinary(plain, x, scale=1024.0).float())
