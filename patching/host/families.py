"""All that knows the shape of a network. One object per family answers the same few questions; nodes and kernels ask no others."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import comfy.ldm.modules.attention as host_attention
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, Upsample

from .blocks import Block, Layer

_LATE = 10 / 16

Options = dict[str, Any]
"""A model call's `transformer_options`; never changed in place."""

HiddenReader = Callable[[Layer, torch.Tensor, tuple[int, int]], None]
"""Is shown (layer, [rows, height * width, channels] hidden states before the self-attention's projections, (height, width))."""

CrossAttentionReader = Callable[[Layer, torch.Tensor, torch.Tensor, int, tuple[int, int]], None]
"""Is shown (layer, projected q [rows, height * width, width], projected k [rows, tokens, width], heads, (height, width))."""


Attention = Callable[..., torch.Tensor]
"""attention(q, k, v, mask=None, long=False) -> [rows, n, width]: what the layer itself would have called, of projected but unsplit heads.

long: for many more keys than the layer's own. On a CPU that is another implementation, whose time and memory grow less with them, unless
one was chosen by `optimized_attention_override` or by a patch of this layer.
"""


class SelfAttentionChange(Protocol):
    """What a swap does to self-attention layers in one model call. size: (height, width) of the layer's hidden states."""

    @property
    def attends(self) -> bool:
        """Whether `attend` is wanted; without it the layer's own attention runs, on the changed inputs."""
        ...

    def inputs(
        self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What queries, keys and values are projected from, each [rows, tokens, channels]."""
        ...

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, size: tuple[int, int]
    ) -> torch.Tensor:
        """The attention of projected queries, keys and values."""
        ...

    def output(self, layer: Layer, output: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """[rows, n, channels]: what the output projection gave, before it is added to the hidden states."""
        ...


CrossAttentionChange = Callable[[Layer, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""(layer, n, context, value) -> what queries, keys and values of a cross-attention are projected from."""


class Family(Protocol):
    """What taps and swaps need to know of a kind of network."""

    name: str

    def blocks(self, network: torch.nn.Module) -> tuple[Block, ...]:
        """The blocks with attention, in call order."""
        ...

    def decoder_stages(self, network: torch.nn.Module) -> tuple[tuple[Block, ...], ...]:
        """The decoder's blocks with attention by resolution, coarse to fine."""
        ...

    def tap_hidden_states(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Options for one model call that shows the hidden states of `layers` to `read`, after every patch that is already there."""
        ...

    def tap_cross_attention(self, options: Options, layers: Collection[Layer], read: CrossAttentionReader) -> Options:
        """Options for one model call that shows queries and keys of `layers` to `read`, then does what would have been done."""
        ...

    def tap_self_attention_output(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Options for one model call that shows what self-attention gave at `layers`, after its output projection, to `read`."""
        ...

    def change_self_attention(self, options: Options, layers: Collection[Layer], change: SelfAttentionChange) -> Options:
        """Options for one model call whose self-attention at `layers` is changed, after every patch that is already there."""
        ...

    def replaces_self_attention(self, options: Options, layers: Collection[Layer]) -> bool:
        """Whether another patch computes the self-attention of any of `layers` itself; it knows no weights of keys."""
        ...

    def change_cross_attention(self, options: Options, layers: Collection[Layer], change: CrossAttentionChange) -> Options:
        """Options for one model call whose cross-attention at `layers` is projected from what `change` gives."""
        ...


class UNet:
    """SD1.x, SD2 and SDXL."""

    name = "U-Net"

    def blocks(self, network: torch.nn.Module) -> tuple[Block, ...]:
        assert isinstance(network, UNetModel)
        middle = [] if network.middle_block is None else [network.middle_block]
        stages = {"input": network.input_blocks, "middle": middle, "output": network.output_blocks}
        found = (Block(kind, number, _depth(module)) for kind, modules in stages.items() for number, module in enumerate(modules))
        return tuple(block for block in found if block.depth)

    def decoder_stages(self, network: torch.nn.Module) -> tuple[tuple[Block, ...], ...]:
        assert isinstance(network, UNetModel)
        stages: list[list[Block]] = [[]]
        for number, module in enumerate(network.output_blocks):
            if _depth(module):
                stages[-1].append(Block("output", number, _depth(module)))
            if any(isinstance(m, Upsample) for m in module.children()):
                stages.append([])
        return tuple(tuple(stage) for stage in stages if stage)

    def tap_hidden_states(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        return _with_patch(options, "attn1_patch", layers, lambda layer, n, context, value, size: read(layer, n, size))

    def tap_cross_attention(self, options: Options, layers: Collection[Layer], read: CrossAttentionReader) -> Options:
        replaced = options.get("patches_replace", {})
        slots = dict(replaced.get("attn2", {}))
        # The host looks for a layer's own slot first and for its block's slot then.
        slots |= {layer: _CrossAttentionHook(layer, read, slots.get(layer, slots.get(layer[:2]))) for layer in layers}
        return {**options, "patches_replace": {**replaced, "attn2": slots}}

    def tap_self_attention_output(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        return _with_patch(options, "attn1_output_patch", layers, read)

    def change_self_attention(self, options: Options, layers: Collection[Layer], change: SelfAttentionChange) -> Options:
        options = _with_patch(options, "attn1_patch", layers, change.inputs)
        options = _with_patch(options, "attn1_output_patch", layers, change.output)
        if not change.attends:
            return options
        replaced = options.get("patches_replace", {})
        slots = dict(replaced.get("attn1", {}))
        slots |= {layer: _AttendHook(layer, change, slots.get(layer, slots.get(layer[:2]))) for layer in layers}
        return {**options, "patches_replace": {**replaced, "attn1": slots}}

    def replaces_self_attention(self, options: Options, layers: Collection[Layer]) -> bool:
        slots = options.get("patches_replace", {}).get("attn1", {})
        return any(layer in slots or layer[:2] in slots for layer in layers)

    def change_cross_attention(self, options: Options, layers: Collection[Layer], change: CrossAttentionChange) -> Options:
        return _with_patch(options, "attn2_patch", layers, lambda layer, n, context, value, size: change(layer, n, context, value))


UNET = UNet()


def family_of(model, node: str) -> Family:
    """The family of a MODEL. Raises ValueError with the model's name for a family that is not supported."""
    network = _network(model)
    video = any(isinstance(m, host_attention.SpatialVideoTransformer) for m in network.modules())
    if isinstance(network, UNetModel) and not video:
        return UNET
    raise ValueError(
        f"{node}: expected a U-Net image model (SD1.x, SD2 or SDXL), got {type(model.model).__name__}, which is not supported yet; "
        "connect another checkpoint to model."
    )


def discover(model, node: str) -> tuple[Block, ...]:
    """The MODEL's blocks with attention, in call order."""
    return family_of(model, node).blocks(_network(model))


def middle_decoder_blocks(model, node: str) -> tuple[str, ...]:
    """The names of the decoder's blocks at its middle resolution, of two the finer: up_blocks.2 of SD 1.x."""
    stages = family_of(model, node).decoder_stages(_network(model))
    return tuple(block.name for block in stages[len(stages) // 2]) if stages else ()


def coarse_decoder_blocks(model, node: str) -> tuple[str, ...]:
    """The names of all of the decoder's blocks but those of its finest resolution: up_blocks.1 and 2 of SD 1.x."""
    stages = family_of(model, node).decoder_stages(_network(model))
    return tuple(block.name for stage in stages[: max(1, len(stages) - 1)] for block in stage)


def late_blocks(model, node: str) -> tuple[str, ...]:
    """The names of the blocks that MasaCtrl (arXiv 2304.08465) and those who follow it change: from layer 10 of SD 1.x's 16 on in call
    order, and from the same part of any other network on."""
    blocks = discover(model, node)
    layers = [block.name for block in blocks for _ in block.layers]
    return tuple(dict.fromkeys(layers[math.ceil(len(layers) * _LATE) :]))


def _network(model) -> torch.nn.Module:
    network = model.get_model_object("diffusion_model")
    return getattr(network, "_orig_mod", network)  # a compiled network wraps the real one


def _depth(module: torch.nn.Module) -> int:
    return sum(len(m.transformer_blocks) for m in module.children() if isinstance(m, host_attention.SpatialTransformer))


def _size(options: Options) -> tuple[int, int]:
    height, width = options["activations_shape"][-2:]
    return height, width


def _with_patch(options: Options, slot: str, layers: Collection[Layer], act: Callable) -> Options:
    patches = options.get("patches", {})
    return {**options, "patches": {**patches, slot: [*patches.get(slot, ()), _Hook(frozenset(layers), act)]}}


def _layer(extra_options: Options) -> Layer:
    kind, number = extra_options["block"]
    return Layer(kind, number, extra_options["block_index"])


def _attention(extra_options: Options, previous: Callable | None = None) -> Attention:
    """What a layer would call itself: whoever already sits in its slot, or the host, which honours `optimized_attention_override`."""

    def attention(q, k, v, mask=None, long=False):
        if previous is not None and mask is None:  # it takes no mask; what needs one asks `replaces_self_attention` first
            return previous(q, k, v, extra_options)
        chosen = host_attention.optimized_attention
        if long and q.device.type == "cpu" and "optimized_attention_override" not in extra_options:
            chosen = host_attention.attention_pytorch
        return chosen(
            q, k, v, extra_options["n_heads"], mask=mask, attn_precision=extra_options["attn_precision"], transformer_options=extra_options
        )

    return attention


@dataclass(frozen=True)
class _Hook:
    """At the chosen layers: what `act(layer, *tensors, size)` returns, or what was given where it returns None."""

    layers: frozenset[Layer]
    act: Callable

    def __call__(self, *given):
        *tensors, extra_options = given
        layer = _layer(extra_options)
        made = self.act(layer, *tensors, _size(extra_options)) if layer in self.layers else None
        if made is not None:
            return made
        return tuple(tensors) if len(tensors) > 1 else tensors[0]


@dataclass(frozen=True)
class _AttendHook:
    layer: Layer
    change: SelfAttentionChange
    previous: Callable | None

    def __call__(self, q, k, v, extra_options):
        return self.change.attend(self.layer, q, k, v, _attention(extra_options, self.previous), _size(extra_options))


@dataclass(frozen=True)
class _CrossAttentionHook:
    layer: Layer
    read: CrossAttentionReader
    previous: Callable | None

    def __call__(self, q, k, v, extra_options):
        self.read(self.layer, q, k, extra_options["n_heads"], _size(extra_options))
        return _attention(extra_options, self.previous)(q, k, v)
