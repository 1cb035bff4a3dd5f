"""Layers whose weights are constants of a gradient, and the tensors of the host's inference mode, made fit for a graph.

No graph may save an inference tensor, as all that the host loads is, nor a weight that the host overwrites with the
next layer's where memory is short. So a layer saves no weight: it asks the host for it again when the gradient passes,
and what the host does to a weight on its way (LoRA, offloading, 8-bit storage) holds both times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import comfy.model_management
import comfy.ops
import comfy.quant_ops
import torch
from torch.overrides import TorchFunctionMode

Forward = Callable[..., torch.Tensor]


def frozen_forward(layer: torch.nn.Module) -> Forward | None:
    """A forward of one of the host's layers that can be differentiated by its input; None for modules that need none of
    their own."""
    if type(layer).__module__ != comfy.ops.__name__:  # other packs' layers may store their weights in ways of their own
        return None
    if isinstance(layer, _NORMS):
        return _norm(layer, layer.forward)
    if isinstance(layer, _CONVOLUTIONS):
        plain = (
            layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
            and "_conv_forward" not in layer.__dict__
        )
        return _linear(layer, layer.forward) if plain else None
    return _linear(layer, layer.forward) if hasattr(layer, "in_features") else None


_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm)


def in_graph(x: torch.Tensor) -> bool:
    """Whether what is computed of x records a graph."""
    return torch.is_grad_enabled() and x.requires_grad


def _linear(layer: torch.nn.Module, original: Forward) -> Forward:
    """For all layers that are linear in their input."""

    def forward(x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if args or kwargs:
            return original(x, *args, **kwargs)
        return _FrozenLinear.apply(x, layer, original) if in_graph(x) else _constant(original, x)

    return forward


class _FrozenLinear(torch.autograd.Function):
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


def _norm(layer: torch.nn.GroupNorm | torch.nn.LayerNorm, original: Forward) -> Forward:
    def forward(x: torch.Tensor) -> torch.Tensor:
        if not in_graph(x):
            return _constant(original, x)
        weight, bias = _affine(layer, x)
        # The host adds what a ControlNet gives to skip connections in place, long after they have been normalized and
        # saved.
        x = x.clone()
        if isinstance(layer, torch.nn.GroupNorm):
            return torch.nn.functional.group_norm(x, layer.num_groups, weight, bias, layer.eps)
        return torch.nn.functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)

    return forward


def _affine(layer: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """A norm's own weight and bias, so small that a graph may keep copies."""
    if layer.weight is None:
        return None, None
    with torch.inference_mode():
        weight, bias, stream = comfy.ops.cast_bias_weight(layer, x, offloadable=True)  # pyright: ignore[reportAssignmentType]
    copies = weight.detach().clone(), None if bias is None else bias.detach().clone()
    comfy.ops.uncast_bias_weight(layer, weight, bias, stream)
    return copies


def _constant(function: Callable[..., torch.Tensor], *args) -> torch.Tensor:
    """Calls the host's own code in the mode it is written for, and gives its result as a tensor that a graph may
    contain."""
    with torch.inference_mode():
        result = function(*args)
    # The same memory, since copying what each layer gives would cost as much as a small layer.
    alias = torch.empty(0, dtype=result.dtype, device=result.device)
    return alias.set_(result.untyped_storage(), result.storage_offset(), result.size(), result.stride())


class HostTensors(TorchFunctionMode):
    """Lets tensors made in inference mode (masks, noise levels, what other packs add) meet those of a graph."""

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
            with torch.inference_mode():  # the host's own buffers
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def _tensors(values: Iterable) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _recordable(value, written):
    """A copy of an inference tensor, except of one that is written to: torch refuses that, and a copy would lose what
    was written."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if value.is_inference() and value is not written else value
    return type(value)(_recordable(v, written) for v in value) if type(value) in (list, tuple) else value
