"""Layers with constant weights, and inference tensors, made usable in an autograd graph.

Autograd cannot save inference tensors, and all weights that the host loads are inference tensors. The host may also
overwrite an offloaded weight with the next layer's. So a layer saves no weight: it requests the weight from the host
again in the backward pass. LoRA, offloading and 8-bit storage then apply in both passes. A weight that is in place and
needs no cast is used as an ordinary tensor in the same memory. The backward pass then takes no Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import comfy.model_management
import comfy.ops
import comfy.quant_ops
import torch
from torch.overrides import TorchFunctionMode

from .frozen_products import by_columns, has_few_positions, has_large_weight

Forward = Callable[..., torch.Tensor]


def frozen_forward(layer: torch.nn.Module, shared: bool = True) -> Forward | None:
    """A forward of a host layer that is differentiable with respect to its input; None for other modules.

    shared: True where the host may modify the layer's input later, so that the graph must not keep it.
    """
    if type(layer).__module__ != "comfy.ops":  # other packs' layers may store weights in another way
        return None
    if isinstance(layer, _NORMS):
        return _norm(layer, layer.forward, shared)
    if isinstance(layer, _CONVOLUTIONS):
        plain = (
            layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
            and "_conv_forward" not in layer.__dict__
        )
        return _linear(layer, layer.forward, shared) if plain else None
    return _linear(layer, layer.forward, shared) if hasattr(layer, "in_features") else None


_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.RMSNorm)


def in_graph(x: torch.Tensor) -> bool:
    """True if operations on x record a graph."""
    return torch.is_grad_enabled() and x.requires_grad


def _linear(layer: torch.nn.Module, original: Forward, shared: bool) -> Forward:
    """The forward of a layer that is linear in its input."""

    def forward(x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if args or kwargs:
            return original(x, *args, **kwargs)
        if not in_graph(x):
            return _constant(original, x)
        own = _in_place(layer, x) if ordinary else None
        few = own is not None and large is not None and has_few_positions(x)
        if own is None or (function is not None and not few and (shared or x.numel() > _SMALL)):
            return _FrozenLinear.apply(x, layer, original)
        comfy.model_management.throw_exception_if_processing_interrupted()
        # Autograd saves the weight of a product or a convolution, and no bias.
        weight, bias = _alias(own[0]), _without_gradient(own[1])
        if function is None:
            return torch.nn.functional.linear(x, weight, bias)
        return by_columns(large, x, weight, bias) if few and large is not None else function(x, weight, bias)

    ordinary, function = _is_ordinary(layer), getattr(layer, "_conv_forward", None)
    large = layer if isinstance(layer, torch.nn.Conv2d) and has_large_weight(layer) else None
    return forward


_SMALL = 2**15
"""Inputs of at most this many numbers may be kept, as PyTorch's own gradient of a convolution does."""
_ORDINARY = {
    kind.__name__: kind
    for kind in (
        comfy.ops.disable_weight_init.Linear,
        comfy.ops.disable_weight_init.Conv1d,
        comfy.ops.disable_weight_init.Conv2d,
    )
}


def _is_ordinary(layer: torch.nn.Module) -> bool:
    """True for a layer that computes what PyTorch's layer of the same name computes with its weights."""
    kind = _ORDINARY.get(type(layer).__name__)
    return kind is not None and all(
        getattr(type(layer), name) is getattr(kind, name) for name in ("forward", "forward_comfy_cast_weights")
    )


class _FrozenLinear(torch.autograd.Function):
    """A layer's forward, with a gradient for its input alone and no saved tensors."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, layer: torch.nn.Module, original: Forward) -> torch.Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        # The host's fast 8-bit layers clamp their input in place.
        return _constant(original, x.detach().clone() if isinstance(layer, comfy.ops.fp8_ops.Linear) else x.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *slopes: torch.Tensor):
        comfy.model_management.throw_exception_if_processing_interrupted()
        return _constant(_input_gradient, ctx.layer, ctx.shape, slopes[0]), None, None


def _input_gradient(layer: torch.nn.Module, shape: torch.Size, slope: torch.Tensor) -> torch.Tensor:
    given, bias, stream = comfy.ops.cast_bias_weight(layer, slope, offloadable=True)
    weight = given.dequantize().to(slope.dtype) if isinstance(given, comfy.quant_ops.QuantizedTensor) else given
    if isinstance(layer, _CONVOLUTIONS):
        of_input = (torch.nn.grad.conv1d_input, torch.nn.grad.conv2d_input, torch.nn.grad.conv3d_input)[weight.ndim - 3]
        result = of_input(shape, weight, slope, layer.stride, layer.padding, layer.dilation, layer.groups)
    else:
        result = slope.matmul(weight)
        smoothing = getattr(layer, "pre_quant_scale", None)
        if smoothing is not None:
            result = result * comfy.model_management.cast_to_device(smoothing, result.device, result.dtype)
    comfy.ops.uncast_bias_weight(layer, given, bias, stream)
    return result


def _norm(
    layer: torch.nn.GroupNorm | torch.nn.LayerNorm | torch.nn.RMSNorm, original: Forward, shared: bool
) -> Forward:
    def forward(x: torch.Tensor) -> torch.Tensor:
        if not in_graph(x):
            return _constant(original, x)
        weight, bias = _affine(layer, x)
        if isinstance(layer, torch.nn.RMSNorm):
            return torch.nn.functional.rms_norm(x, layer.normalized_shape, weight, layer.eps)
        # The host adds ControlNet residuals to skip connections in place, after autograd has saved them here.
        x = x.clone() if shared else x
        # PyTorch's functions for these two take more time for checks than a small layer for its numbers.
        cudnn = torch.backends.cudnn.enabled
        if isinstance(layer, torch.nn.GroupNorm):
            return torch.group_norm(x, layer.num_groups, weight, bias, layer.eps, cudnn)
        return torch.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps, cudnn)

    return forward


def _affine(layer: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """A norm's weight and bias as tensors that the graph may keep.

    They are copied where the host casts or loads them for the call, since it may overwrite its buffer.
    """
    if layer.weight is None:
        return None, None
    own = _in_place(layer, x)
    if own is not None:
        weight, bias = own
        # Autograd saves the bias of a LayerNorm, and no other norm's.
        if bias is not None and isinstance(layer, torch.nn.LayerNorm):
            return _alias(weight), _alias(bias)
        return _alias(weight), _without_gradient(bias)
    with torch.inference_mode():
        weight, bias, stream = comfy.ops.cast_bias_weight(layer, x, offloadable=True)  # pyright: ignore[reportAssignmentType]
    copies = weight.detach().clone(), None if bias is None else bias.detach().clone()
    comfy.ops.uncast_bias_weight(layer, weight, bias, stream)
    return copies


def _in_place(layer: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """A layer's own weight and bias, where those are what the host would compute with; else None."""
    if "_v" in layer.__dict__ or getattr(layer, "weight_function", ()) or getattr(layer, "bias_function", ()):
        return None
    # A module's attributes take several times as long, and there are thousands of calls.
    parameters = layer._parameters
    weight, bias = parameters.get("weight"), parameters.get("bias")
    if weight is None or not _fits(weight, x) or not (bias is None or _fits(bias, x)):
        return None
    return weight, bias


def _fits(weight: torch.Tensor, x: torch.Tensor) -> bool:
    return type(weight) is torch.nn.Parameter and weight.dtype == x.dtype and weight.device == x.device


def _without_gradient(bias: torch.Tensor | None) -> torch.Tensor | None:
    return bias.detach() if bias is not None and bias.requires_grad else bias


def _constant(function: Callable[..., torch.Tensor], *args) -> torch.Tensor:
    """Calls host code in inference mode and returns its result as an ordinary tensor that a graph may contain."""
    with torch.inference_mode():
        result = function(*args)
    return _alias(result)


def _alias(result: torch.Tensor) -> torch.Tensor:
    """An ordinary tensor in the same memory: a copy of each layer's output would cost as much as a small layer."""
    alias = result.new_empty(0)
    # A weight on which the host has left requires_grad set would hand it on.
    source = result.detach() if result.requires_grad else result
    return alias.set_(source)  # pyright: ignore[reportArgumentType]


class HostTensors(TorchFunctionMode):
    """Lets inference tensors, such as masks, noise levels and other packs' tensors, be used together with a graph."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if torch.is_inference_mode_enabled() or name == "__get__":
            return func(*args, **kwargs)
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        if not any(t.is_inference() for t in tensors):
            return func(*args, **kwargs)
        in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        written = args[0] if in_place else kwargs.get("out")
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            args = [_recordable(value, written) for value in args]
            kwargs = {key: _recordable(value, written) for key, value in kwargs.items()}
        elif isinstance(written, torch.Tensor) and written.is_inference():
            with torch.inference_mode():  # a buffer of the host
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def _tensors(values: Iterable) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _recordable(value, written):
    """An ordinary copy of an inference tensor, except of the one written to, where a copy would lose the write."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if value.is_inference() and value is not written else value
    return type(value)(_recordable(v, written) for v in value) if type(value) in (list, tuple) else value
