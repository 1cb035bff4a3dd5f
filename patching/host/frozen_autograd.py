"""Gradients with respect to latents, through networks that the host loaded for inference, without copying weights."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.ldm.modules.attention as host_attention
import comfy.model_management
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from .dit_grad import training, with_rotation
from .family import Options
from .frozen_blocks import Mutated, SeparateViews, Stop, copies_saved
from .frozen_forwards import Forwards, Recording
from .frozen_layers import HostTensors
from .frozen_products import attends_by_products, attention_by_products

if TYPE_CHECKING:
    from comfy.model_base import BaseModel

_KEY = "likeness.gradient"
_LOSS_SCALES = (1024.0, 1.0)
_MANY_TOKENS = 1024
"""Blocks of this many tokens or more are recomputed.

That cuts the memory that a gradient pass adds to a full-size network at 512x512 to a fifth.
"""
_OF_THE_CALL = ("transformer_options", "_inside_attn_wrapper", "attn_precision")
"""Arguments of the host's attention that do not change its result, except for the precision of scores."""
_OutOfMemory = comfy.model_management.OOM_EXCEPTION


class Gradient(NamedTuple):
    """Result of `gradient`.

    latents: the shape of the call's latents, float32, d loss / d latents. losses: [batch]. checkpointed, mutable,
    mixed: what was needed, so that the next call of the run may ask for it.
    """

    latents: torch.Tensor
    losses: torch.Tensor
    checkpointed: bool
    mutable: bool
    mixed: bool


def gradient(
    model: BaseModel,
    conds: list[dict],
    x: torch.Tensor,
    timestep: torch.Tensor,
    model_options: dict[str, Any],
    loss: Callable[[], torch.Tensor | None],
    node: str,
    *,
    tap: Callable[[Options], Options] | None = None,
    run: Callable[..., Any] | None = None,
    checkpointed: bool = False,
    mutable: bool = False,
    mixed: bool = False,
    forwards: Forwards | None = None,
) -> Gradient | None:
    """The gradient of a loss on a model call's features, with respect to its noisy latents.

    model: the host's loaded BaseModel.
    conds: one conditioning, as samplers hold it.
    x: latents of the call, rows first. timestep: [batch] noise levels.
    model_options: options of the call; not modified.
    tap: adds readers of features to `transformer_options`, whose attention has a gradient by then. Readers may end the
        forward pass with Stop, and may be called twice per layer with the same values.
    loss: called after the forward pass. Returns [batch] losses, each of its own row alone, or None for no gradient.
    run: replacement for the host's calc_cond_batch, with the same arguments.
    checkpointed: recompute the activations of all blocks, not only of large ones. Without it, that is the fallback when
        memory runs out.
    mutable: let other packs' patches modify in place what the graph has saved. That costs a copy of each saved tensor,
        so it is the fallback when autograd finds such a change.
    mixed: let inference tensors that are no layer's weights, such as masks, take part. That intercepts every operation,
        so it is the fallback when autograd finds such a tensor.
    forwards: keeps the layers' forwards for further gradients of the run.
    Returns None if there is no loss. Rows whose gradient overflows the model's precision are not finite.
    Raises the host's out-of-memory error, with advice.
    Raises ValueError for a loss that is not one number per row or does not depend on the latents.
    Raises ValueError for conds with different weight hooks.
    """
    # The threads of multi-GPU clones record no graph.
    options = {name: value for name, value in model_options.items() if name != "multigpu_clones"}
    networks, forwards = (model.diffusion_model, *control_networks(conds)), forwards or Forwards()
    shared = any(cond.get("control") is not None for cond in conds)
    inner = differentiable(model_options.get("transformer_options", {}))
    inner = inner if tap is None else tap(inner)
    options["transformer_options"] = _stoppable(
        with_rotation(inner) if any(forwards.rotating(network) for network in networks) else inner
    )
    # The backward pass would use the weights of the last part for all parts.
    if len({cond.get("hooks") for cond in conds}) > 1:
        raise ValueError(
            f"{node}: expected the same scheduled weights for all parts of a prompt, got different ones; "
            "remove the hooks from the conditioning of some, or give all of them the same."
        )

    def losses_of(latents: torch.Tensor) -> torch.Tensor | None:
        with contextlib.suppress(Stop):
            (run or comfy.samplers.calc_cond_batch)(model, [conds], latents, timestep, options)
        return loss()

    while True:
        try:
            with _failing(node):
                settings = {"checkpointed": checkpointed, "mutable": mutable, "mixed": mixed}
                recording = functools.partial(frozen_autograd, *networks, **settings, shared=shared, forwards=forwards)
                return _differentiate(recording, x, losses_of, node, settings)
        except _OutOfMemory:
            if checkpointed:
                raise
            checkpointed = True
        except RuntimeError as error:
            if "autograd formula" in str(error):
                raise ValueError(
                    f"{node}: expected a model through which there is a gradient, got {type(model).__name__} with "
                    "operations of ComfyUI that have none; update ComfyUI, or choose another checkpoint."
                ) from error
            if not mixed and "inference" in str(error).lower():
                mixed = True
                continue
            if not _changes_in_place(error):
                raise
            if mutable:
                raise ValueError(
                    f"{node}: expected a model through which there is a gradient, got one with a patch that modifies "
                    "tensors where autograd does not allow it; remove the node that adds this patch from model."
                ) from error
            mutable = True
        comfy.model_management.soft_empty_cache()


def _changes_in_place(error: RuntimeError) -> bool:
    """True for autograd's refusal of a tensor that was modified in place; it has no exception type of its own."""
    return isinstance(error, Mutated) or "modified by an inplace" in str(error) or "modified inplace" in str(error)


def _differentiate(
    recording: Callable, x: torch.Tensor, losses_of: Callable, node: str, settings: dict[str, bool]
) -> Gradient | None:
    """Computes the gradient with a scaled loss, so that half precision does not round it to 0.

    If that overflows, the gradient is computed again without a scale.
    """
    found = None
    for scale in _LOSS_SCALES:
        with recording(), _queue_cleared():
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
            found = Gradient(slope / scale, losses.detach(), **settings)
        if found.latents.isfinite().all() or not found.losses.isfinite().all():
            break
    return found


@contextlib.contextmanager
def _queue_cleared() -> Iterator[None]:
    """Clears the autograd engine's queue after a failed backward pass, which would keep the whole graph alive."""
    leaf = torch.zeros((), requires_grad=True)
    older = leaf.clone()
    try:
        yield
    except BaseException:
        # The engine only drops stale entries on its way to older nodes.
        torch.autograd.grad(older, leaf)
        raise


@contextlib.contextmanager
def _failing(node: str) -> Iterator[None]:
    """Frees the tensors of a failed attempt.

    Re-raises an out-of-memory error as the host's own type, on which the host unloads models, with advice.
    """
    try:
        yield
    except BaseException as error:
        # The traceback keeps activations and the hooks of an interrupted checkpoint alive.
        traceback.clear_frames(error.__traceback__)
        if not comfy.model_management.is_oom(error):
            raise
        raise _OutOfMemory(
            f"{node}: expected enough memory for a gradient through the model, got less than even recomputing its "
            "activations takes; use smaller or fewer latents, or remove this node."
        ) from error


def differentiable(options: Options) -> Options:
    """A model call's `transformer_options` with PyTorch's attention, which has a gradient.

    Faster implementations have none, and an existing override need not call the function that it is given.
    """
    return {**options, "optimized_attention_override": _attention}


def _attention(_chosen: Callable, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, *args, **kwargs):
    plain = not args and all(value is None for name, value in kwargs.items() if name not in _OF_THE_CALL)
    if plain and attends_by_products(q, k, v):
        return attention_by_products(q, k, v, heads)
    return host_attention.attention_pytorch(q, k, v, heads, *args, **kwargs)


def _stoppable(options: Options) -> Options:
    """Options in which Stop ends a single model call, so that prompts with several areas run to their last call.

    The wrapper is outermost, so that no other wrapper sees the placeholder result.
    """
    wrappers = options.get("wrappers", {})
    calls = {_KEY: [_until_stop], **wrappers.get(WrappersMP.APPLY_MODEL, {})}
    return {**options, "wrappers": {**wrappers, WrappersMP.APPLY_MODEL: calls}}


def _until_stop(executor, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    try:
        return executor(x, *args, **kwargs)
    except Stop:
        return x


def control_networks(conds: list[dict]) -> tuple[torch.nn.Module, ...]:
    """Networks of a conditioning's ControlNets, which are functions of the latents too."""
    found: dict[int, torch.nn.Module] = {}
    for control in (cond.get("control") for cond in conds):
        while control is not None:
            network = getattr(control, "control_model", None)
            if isinstance(network, torch.nn.Module):
                found[id(network)] = network
            control = control.previous_controlnet
    return tuple(found.values())


@contextlib.contextmanager
def frozen_autograd(
    *networks: torch.nn.Module,
    checkpointed: bool = False,
    mutable: bool = False,
    mixed: bool = True,
    shared: bool = True,
    forwards: Forwards | None = None,
) -> Iterator[None]:
    """Makes calls of `networks` record a graph from latents to features, even in the host's inference mode.

    networks: loaded by the host; their weights are constants. checkpointed: recompute all blocks of a U-Net in the
    backward pass, not only those of many tokens; those of a diffusion transformer are always recomputed. mutable: allow
    changes in place of what the graph has saved. mixed: allow inference tensors that are no layer's weights. shared:
    allow the host to add to skip connections in place. forwards: those of the run. Take gradients inside this context
    too.
    """
    recording = Recording(0 if checkpointed else _MANY_TOKENS, mutable, mixed, shared)
    made = [(forwards or Forwards()).of(network, recording) for network in networks]
    changed: list[torch.nn.Module] = []
    try:
        for layer, forward in (pair for of in made for pair in of.forwards):
            if "forward" not in layer.__dict__:
                layer.__dict__["forward"] = forward
                changed.append(layer)
        with contextlib.ExitStack() as stack:
            stack.enter_context(training() if any(of.transformers for of in made) else contextlib.nullcontext())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            if mutable:
                stack.enter_context(copies_saved())
                stack.enter_context(SeparateViews())
            if mixed:
                stack.enter_context(HostTensors())
            yield
    finally:
        for layer in changed:
            layer.__dict__.pop("forward", None)
