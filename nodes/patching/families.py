"""All that knows the shape of a network. One object per family answers the same few questions; nodes and kernels ask no others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import comfy.ldm.modules.attention as host_attention
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from .blocks import Block, Layer

Options = dict[str, Any]
"""A model call's `transformer_options`; never changed in place."""

HiddenReader = Callable[[Layer, torch.Tensor, tuple[int, int]], None]
"""Is shown (layer, [rows, height * width, channels] hidden states before the self-attention's projections, (height, width))."""

CrossAttentionReader = Callable[[Layer, torch.Tensor, torch.Tensor, int, tuple[int, int]], None]
"""Is shown (layer, projected q [rows, height * width, width], projected k [rows, tokens, width], heads, (height, width))."""


class Family(Protocol):
    """What the taps need to know of a kind of network."""

    name: str

    def blocks(self, network: torch.nn.Module) -> tuple[Block, ...]:
        """The blocks with attention, in call order."""
        ...

    def tap_hidden_states(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Options for one model call that shows the hidden states of `layers` to `read`, after every patch that is already there."""
        ...

    def tap_cross_attention(self, options: Options, layers: Collection[Layer], read: CrossAttentionReader) -> Options:
        """Options for one model call that shows queries and keys of `layers` to `read`, then does what would have been done."""
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

    def tap_hidden_states(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        patches = options.get("patches", {})
        hook = _HiddenStateHook(frozenset(layers), read)
        return {**options, "patches": {**patches, "attn1_patch": [*patches.get("attn1_patch", ()), hook]}}

    def tap_cross_attention(self, options: Options, layers: Collection[Layer], read: CrossAttentionReader) -> Options:
        replaced = options.get("patches_replace", {})
        slots = dict(replaced.get("attn2", {}))
        # The host looks for a layer's own slot first and for its block's slot then.
        slots |= {layer: _CrossAttentionHook(layer, read, slots.get(layer, slots.get(layer[:2]))) for layer in layers}
        return {**options, "patches_replace": {**replaced, "attn2": slots}}


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


def _network(model) -> torch.nn.Module:
    network = model.get_model_object("diffusion_model")
    return getattr(network, "_orig_mod", network)  # a compiled network wraps the real one


def _depth(module: torch.nn.Module) -> int:
    return sum(len(m.transformer_blocks) for m in module.children() if isinstance(m, host_attention.SpatialTransformer))


def _size(options: Options) -> tuple[int, int]:
    height, width = options["activations_shape"][-2:]
    return height, width


@dataclass(frozen=True)
class _HiddenStateHook:
    layers: frozenset[Layer]
    read: HiddenReader

    def __call__(self, n, context, value, extra_options):
        kind, number = extra_options["block"]
        layer = Layer(kind, number, extra_options["block_index"])
        if layer in self.layers:
            self.read(layer, n, _size(extra_options))
        return n, context, value


@dataclass(frozen=True)
class _CrossAttentionHook:
    layer: Layer
    read: CrossAttentionReader
    previous: Callable | None

    def __call__(self, q, k, v, extra_options):
        heads = extra_options["n_heads"]
        self.read(self.layer, q, k, heads, _size(extra_options))
        if self.previous is not None:
            return self.previous(q, k, v, extra_options)
        # What the layer itself would call: it looks into the options for an `optimized_attention_override`.
        return host_attention.optimized_attention(
            q, k, v, heads, attn_precision=extra_options["attn_precision"], transformer_options=extra_options
        )
