"""Norms of a gradient pass use the host's own weights where these need no cast."""

import comfy.ops
import torch
from likeness.patching.host import frozen_layers


def norm(dtype=torch.float32):
    with torch.inference_mode():
        layer = comfy.ops.manual_cast.GroupNorm(2, 8, dtype=dtype)
        layer.weight.copy_(torch.linspace(0.5, 2, 8))
        layer.bias.copy_(torch.linspace(-1, 1, 8))
    return layer


def run(layer, x):
    forward = frozen_layers.frozen_forward(layer)
    assert forward is not None
    x = x.clone().requires_grad_()
    result = forward(x)
    (slope,) = torch.autograd.grad(result.square().sum(), x)
    return result.detach(), slope


def kept_of(layer, x):
    return frozen_layers._affine(layer, x)


def test_own_weights_are_not_copied():
    layer, x = norm(), torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    weight, bias = kept_of(layer, x)
    assert weight is not None and bias is not None
    assert weight.data_ptr() == layer.weight.data_ptr() and bias.data_ptr() == layer.bias.data_ptr()
    assert not weight.is_inference() and not weight.requires_grad
    expected = torch.nn.functional.group_norm(x, 2, layer.weight.clone(), layer.bias.clone(), layer.eps)
    assert torch.equal(run(layer, x)[0], expected)


def test_cast_and_patched_weights_are_copied():
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    half, patched = norm(torch.float16), norm()
    patched.weight_function = [lambda weight: weight * 2]
    patched.comfy_cast_weights = True
    for layer in (half, patched):
        weight, _ = kept_of(layer, x)
        assert weight is not None and weight.data_ptr() != layer.weight.data_ptr() and weight.dtype == x.dtype
    doubled = norm()
    with torch.inference_mode():
        doubled.weight.mul_(2)
    for found, wanted in zip(run(patched, x), run(doubled, x), strict=True):
        torch.testing.assert_close(found, wanted)
