"""Convolutions and attention of a gradient pass as plain products, where a CPU's own kernels take longer.

A graph of products keeps the weights, which are constants, and no inputs of convolutions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

_FEW_POSITIONS = 64
"""Up to so many pixels, a CPU's convolution takes most of its time to rearrange its weights."""
_LARGE_WEIGHT = 2**20
_FEW_SCORES = 2**16
"""Up to so many pairs of a query and a key, PyTorch's gradient of attention in bfloat16 is slow on a CPU."""
_FEW_KEYS = 256
"""Up to so many constant keys, products take less time. At 1024 and more they take up to 1.7 times as long."""


def has_large_weight(layer: torch.nn.Conv2d) -> bool:
    """True for a convolution that `by_columns` may be faster for."""
    numbers = layer.in_channels * layer.out_channels * math.prod(layer.kernel_size)
    return layer.groups == 1 and numbers >= _LARGE_WEIGHT


def has_few_positions(x: torch.Tensor) -> bool:
    """True where `by_columns` is the faster form of a convolution with a large weight."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.ndim == 4
        and x.shape[0] * x.shape[2] * x.shape[3] <= _FEW_POSITIONS
    )


def by_columns(
    layer: torch.nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """A convolution of x [rows, channels, height, width] as one product of the weight and columns of x."""
    assert not isinstance(layer.padding, str)
    places = zip(x.shape[2:], layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    size = [(side + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for side, kernel, step, pad, gap in places]
    columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    rows = len(columns)
    columns = columns.transpose(0, 1).flatten(1)
    matrix = weight.flatten(1)
    result = matrix @ columns if bias is None else torch.addmm(bias[:, None], matrix, columns)
    return result.unflatten(1, (rows, *size)).transpose(0, 1).contiguous()


def attends_by_products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> bool:
    """True where `attention_by_products` has the faster gradient.

    PyTorch computes the gradients of keys and values, too, which a text's do not need.
    """
    # A host may pass keys and values with their heads apart.
    if not q.ndim == k.ndim == v.ndim == 3 or q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return False
    if not torch.is_grad_enabled() or not q.requires_grad:
        return False
    constant = not (k.requires_grad or v.requires_grad)
    return (constant and k.shape[1] <= _FEW_KEYS) or q.shape[1] * k.shape[1] <= _FEW_SCORES


def attention_by_products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v per head: q [rows, n, width], k, v [rows, m, width] -> [rows, n, width].

    Scores are in fp32, as in PyTorch's own kernels.
    """
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    scale = q.shape[-1] ** -0.5
    shares = ((q.float() * scale) @ k.float().transpose(-1, -2)).softmax(-1)
    return (shares.to(v.dtype) @ v).transpose(1, 2).flatten(2)
