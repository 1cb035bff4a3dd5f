"""Gradients with respect to latents through networks that the host has loaded for inference, without a second copy of
their weights."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import comfy.ldm.modules.attention as host_attention
import comfy.model_management
import comfy.samplers
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.patcher_extension import WrappersMP
from torch.utils.checkpoint import checkpoint

from .blocks import Layer
from .family import Options
from .frozen_layers import Forward, HostTensors, frozen_forward, in_graph

_KEY = "likeness.gradient"
_LOSS_SCALES = (1024.0, 1.0)
_MANY_TOKENS = 1024
"""Recomputing blocks of so many leaves a fifth of the memory that a gradient pass adds to a full-size network at
512x512."""
_OutOfMemory = comfy.model_management.OOM_EXCEPTION


class Stop(BaseException):
    """Ends a forward pass of which nothing more is needed. No Exception, so that nobody in between takes it for a
    failure of the model."""


class Gradient(NamedTuple):
    """latents: [batch, channels, height, width] float32, d loss / d latents; losses: [batch]; checkpointed: how it was
    computed."""

    latents: torch.Tensor
    losses: torch.Tensor
    checkpointed: bool


def gradient(
    model,
    conds: list[dict],
    x: torch.Tensor,
    timestep: torch.Tensor,
    model_options: dict[str, Any],
    loss: Callable[[], torch.Tensor | None],
    node: str,
    *,
    run: Callable[..., Any] | None = None,
    checkpointed: bool = False,
) -> Gradient | None:
    """The gradient of a loss of what a model call computes, with respect to its noisy latents; None where there is no
    loss.

    model: the host's BaseModel, loaded; conds: one conditioning as samplers hold it; x: [batch, channels, height,
    width]; timestep: [batch] noise levels; model_options: those of the call, with the readers of features among their
    `transformer_options`; they are not changed. Readers may end the forward pass with Stop; they may be called again
    for a layer, with the same values. loss: called after the forward pass, gives [batch] losses, each of its own row
    alone, or None where there is nothing to change. run: what to call in place of the host's calc_cond_batch, with its
    arguments. checkpointed: recompute the activations of all blocks in place of keeping them, not only of large ones.
    When memory runs out without, this is tried before giving up. Rows whose gradient overflows the model's precision
    are not finite. Raises the host's out-of-memory error, with advice, and ValueError for a loss that does not depend
    on the latents or is not one number per row, and for conds with different weight hooks.
    """
    options = {
        name: value for name, value in model_options.items() if name != "multigpu_clones"
    }  # its threads record no graph
    options["transformer_options"] = _stoppable(differentiable(model_options.get("transformer_options", {})))
    networks = (model.diffusion_model, *control_networks(conds))
    if len({cond.get("hooks") for cond in conds}) > 1:  # the gradient would find the weights of whichever ran last
        raise ValueError(
            f"{node}: expected the same scheduled weights for all parts of a prompt, got different ones; "
            "remove the hooks from the conditioning of some, or give all of them the same."
        )

    def losses_of(latents: torch.Tensor) -> torch.Tensor | None:
        with contextlib.suppress(Stop):
            (run or comfy.samplers.calc_cond_batch)(model, [conds], latents, timestep, options)
        return loss()

    if not checkpointed:
        with contextlib.suppress(_OutOfMemory), _failing(node):
            return _differentiate(networks, x, losses_of, node, checkpointed=False)
        comfy.model_management.soft_empty_cache()
    with _failing(node):
        return _differentiate(networks, x, losses_of, node, checkpointed=True)


def _differentiate(networks, x: torch.Tensor, losses_of: Callable, node: str, *, checkpointed: bool) -> Gradient | None:
    """Scales the loss so that half precision does not round small gradients to 0; without scale where that makes large
    ones overflow."""
    found = None
    for scale in _LOSS_SCALES:
        with frozen_autograd(*networks, checkpointed=checkpointed), _nothing_queued():
            latents = x.detach().to(torch.float32, copy=True).requires_grad_()
            losses = losses_of(latents)
            if losses is None:
                return None
            if losses.shape != x.shape[:1]:
                raise ValueError(
                    f"{node}: expected one loss per latent, of shape [{len(x)}], got {list(losses.shape)}."
                )
            if not losses.requires_grad:
                raise ValueError(
                    f"{node}: expected a loss that depends on the latents, got one that does not; "
                    "remove the node that answers in the model's place (such as a cache) from model."
                )
            (slope,) = torch.autograd.grad(losses.float().sum() * scale, latents)
            found = Gradient(slope / scale, losses.detach(), checkpointed)
        if found.latents.isfinite().all() or not found.losses.isfinite().all():
            break
    return found


@contextlib.contextmanager
def _nothing_queued() -> Iterator[None]:
    """Lets go of what a backward pass that failed on this thread still had to do, and with it of the whole graph."""
    leaf = torch.zeros((), requires_grad=True)
    older = leaf.clone()
    try:
        yield
    except BaseException:
        # The engine drops what an ended pass has queued only on its way to nodes that are older than those.
        torch.autograd.grad(older, leaf)
        raise


@contextlib.contextmanager
def _failing(node: str) -> Iterator[None]:
    """Lets go of all that a failed attempt has computed. An out-of-memory error gets words, and its type, for which the
    host unloads its models, stays."""
    try:
        yield
    except BaseException as error:
        # Who keeps the exception would keep the activations in its traceback, and the hooks of an interrupted
        # checkpoint in place.
        traceback.clear_frames(error.__traceback__)
        if not comfy.model_management.is_oom(error):
            raise
        raise _OutOfMemory(
            f"{node}: expected enough memory for a gradient through the model, got less than even recomputing its "
            "activations takes; use smaller or fewer latents, or remove this node."
        ) from error


def stop_at(read: Callable[..., None], last: Layer) -> Callable[..., None]:
    """A reader that shows everything to `read` and, once it has shown the layer `last`, ends the forward pass."""

    def reader(layer: Layer, *seen) -> None:
        read(layer, *seen)
        if layer == last:
            raise Stop

    return reader


def differentiable(options: Options) -> Options:
    """A model call's `transformer_options` with an attention that has a gradient, in place of any that was chosen: the
    faster ones have none, and what replaces attention need not call the one it is given."""
    return {**options, "optimized_attention_override": _pytorch_attention}


def _pytorch_attention(_chosen: Callable, *args, **kwargs) -> torch.Tensor:
    return host_attention.attention_pytorch(*args, **kwargs)


def _stoppable(options: Options) -> Options:
    """Each model call of several (of prompts with areas) ends by itself; as the outermost wrapper, so that no other
    gets a result."""
    wrappers = options.get("wrappers", {})
    calls = {_KEY: [_until_stop], **wrappers.get(WrappersMP.APPLY_MODEL, {})}
    return {**options, "wrappers": {**wrappers, WrappersMP.APPLY_MODEL: calls}}


def _until_stop(executor, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    try:
        return executor(x, *args, **kwargs)
    except Stop:
        return x


def control_networks(conds: list[dict]) -> tuple[torch.nn.Module, ...]:
    """The networks of a conditioning's ControlNets: they see the latents too."""
    found: dict[int, torch.nn.Module] = {}
    for control in (cond.get("control") for cond in conds):
        while control is not None:
            network = getattr(control, "control_model", None)
            if isinstance(network, torch.nn.Module):
                found[id(network)] = network
            control = control.previous_controlnet
    return tuple(found.values())


def refuse_compiled(model, node: str) -> None:
    """Raises ValueError for a MODEL changed by torch.compile: what was compiled does not see that layers do something
    else for a while."""
    network = model.get_model_object("diffusion_model")
    compiled = (
        "torch_compile_kwargs" in model.model_options
        or bool(model.get_wrappers(WrappersMP.APPLY_MODEL, "torch.compile"))
        or any(hasattr(patch, "_orig_mod") for patch in model.object_patches.values())
        or any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in network.modules())
    )
    if compiled:
        raise ValueError(
            f"{node}: expected a model without torch.compile, got a compiled one, through which there is no gradient; "
            "remove the node that compiles it (such as TorchCompileModel) from model."
        )


def refuse_cached(model, node: str) -> None:
    """Raises ValueError for a MODEL whose steps may be answered from a cache, which would take the gradient's pass for
    one of them."""
    for name, kind in (("EasyCache", WrappersMP.DIFFUSION_MODEL), ("LazyCache", WrappersMP.PREDICT_NOISE)):
        if model.get_wrappers(kind, name.lower()):
            raise ValueError(
                f"{node}: expected a model that runs at every step, got one with {name}; remove that node from model."
            )


@contextlib.contextmanager
def frozen_autograd(*networks: torch.nn.Module, checkpointed: bool = False) -> Iterator[None]:
    """Inside, calls of `networks` record a graph from latents to features, also within the host's inference mode.

    networks: the host's, loaded; their weights are constants. Gradients are to be taken inside too. Residual and
    transformer blocks of many tokens keep only their inputs, and run again when the gradient passes; where
    checkpointed, all of them do.
    """
    fewest = 0 if checkpointed else _MANY_TOKENS
    changed: list[torch.nn.Module] = []
    try:
        for layer in (layer for network in networks for layer in network.modules()):
            if "forward" in layer.__dict__:  # another pack's, which may add more to the layer than its weight says
                continue
            block = isinstance(layer, (ResBlock, host_attention.BasicTransformerBlock))
            forward = _recomputed(layer.forward, fewest) if block else frozen_forward(layer)
            if forward is not None:
                layer.__dict__["forward"] = forward
                changed.append(layer)
        with torch.inference_mode(False), torch.enable_grad(), HostTensors():
            yield
    finally:
        for layer in changed:
            layer.__dict__.pop("forward", None)


def _recomputed(original: Forward, fewest: int) -> Forward:
    """A block that keeps only its input, if that has so many tokens. It records a graph as ever, so that features read
    inside have gradients."""

    def forward(x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if not in_graph(x) or _tokens(x) < fewest:
            return original(x, *args, **kwargs)
        # The host goes on to write the next block's number into the same options.
        args = tuple(_snapshot(value) for value in args)
        kwargs = {name: _snapshot(value) for name, value in kwargs.items()}

        def block(x: torch.Tensor) -> torch.Tensor | None:
            try:
                return original(x, *args, **kwargs)
            except Stop:  # a checkpoint has to return, also when the block is run up to here again
                return None

        # Copied, since the host adds what a ControlNet gives to skip connections in place.
        result = checkpoint(block, x.clone(), use_reentrant=False, preserve_rng_state=False, context_fn=_contexts)
        if result is None:
            raise Stop
        return result

    return forward


def _tokens(x: torch.Tensor) -> int:
    """Of a picture [rows, channels, height, width] or of a sequence [rows, tokens, channels]."""
    return x.shape[2:].numel() if x.ndim > 3 else x.shape[1]


def _contexts():
    return contextlib.nullcontext(), HostTensors()  # the second pass may run in a thread of the autograd engine


def _snapshot(value):
    return dict(value) if isinstance(value, dict) else value
