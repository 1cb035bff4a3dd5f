"""The U-Nets of SD1.x, SD2 and SDXL: their blocks, and hooks in their attention layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.ldm.modules.attention as host_attention
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample
from comfy.model_base import ModelType
from comfy.supported_models import SD15, SD20, SDXL, SDXLRefiner

from .blocks import Block, Layer
from .family import (
    COARSE,
    CROSS_INPUT,
    CROSS_OUTPUT,
    HIDDEN,
    LATE,
    MIDDLE,
    SELF_INPUT,
    Attending,
    CrossAttentionChange,
    CrossAttentionReader,
    HiddenReader,
    Options,
    Resolution,
    SelfAttentionChange,
    Shift,
)
from .reference_places import Taken
from .tokens import Tokens
from .uncompiled import uncompiled
from .unet_attention import UNetAttention

if TYPE_CHECKING:
    from comfy.model_base import BaseModel

_LATE = 10 / 16


class UNet:
    """The family of SD1.x, SD2 and SDXL; see `Family`."""

    name = "U-Net"
    models = "SD1.x, SD2 or SDXL"
    lends = HIDDEN
    centered, places_by_text, text_multiple = False, False, 1

    def fits(self, network: torch.nn.Module) -> bool:
        video = any(isinstance(m, host_attention.SpatialVideoTransformer) for m in network.modules())
        return isinstance(network, UNetModel) and not video

    def blocks(self, network: torch.nn.Module) -> tuple[Block, ...]:
        assert isinstance(network, UNetModel)
        found = (
            Block(kind, number, _depth(module))
            for kind, modules in _stages(network).items()
            for number, module in enumerate(modules)
        )
        return tuple(block for block in found if block.depth)

    def preset(self, network: torch.nn.Module, name: str) -> tuple[str, ...]:
        """Names of the blocks in a preset.

        LATE: layers 10 to 15 of SD 1.x's 16, as in MasaCtrl (arXiv 2304.08465), and the same share of other networks.
        MIDDLE: the decoder's middle resolution, the finer one of an even number: up_blocks.2 of SD 1.x.
        COARSE: all resolutions of the decoder but the finest: up_blocks.1 and 2 of SD 1.x.
        """
        if name == LATE:
            layers = [block.name for block in self.blocks(network) for _ in block.layers]
            return tuple(dict.fromkeys(layers[math.ceil(len(layers) * _LATE) :]))
        stages = _decoder_stages(network)
        if name == MIDDLE:
            return tuple(block.name for block in stages[len(stages) // 2]) if stages else ()
        assert name == COARSE
        return tuple(block.name for stage in stages[: max(1, len(stages) - 1)] for block in stage)

    def training_resolution(self, model: BaseModel) -> Resolution:
        """512 pixels for SD1.x, 768 for SD2.x with v-prediction, otherwise 512, and 1024 for SDXL.

        Other networks of this family, such as the demo's, state theirs in their configuration.
        """
        config = model.model_config
        if isinstance(config, SDXL | SDXLRefiner):
            side = 128
        elif isinstance(config, SD20):
            side = 96 if model.model_type == ModelType.V_PREDICTION else 64
        else:
            # The host sets image_size to one value for all checkpoints, which is not the size of SD1.x.
            side = 64 if isinstance(config, SD15) else config.unet_config["image_size"]
        network = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)
        assert isinstance(network, UNetModel)
        return Resolution(side, 2 ** sum(_halves(module) for module in network.input_blocks))

    def hidden_shapes(
        self, network: torch.nn.Module, size: tuple[int, int]
    ) -> dict[Layer, tuple[tuple[int, int], int]]:
        assert isinstance(network, UNetModel)
        sizes = []
        for module in network.input_blocks:
            size = (math.ceil(size[0] / 2), math.ceil(size[1] / 2)) if _halves(module) else size
            sizes.append(size)
        # A block of the decoder joins the encoder's block of its size, in reverse order.
        places = {"input": sizes, "middle": sizes[-1:], "output": sizes[::-1]}
        return {
            Layer(kind, number, i): (places[kind][number], width)
            for kind, modules in _stages(network).items()
            for number, module in enumerate(modules)
            for i, width in enumerate(_widths(module))
        }

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def taken(self, prompts: Iterable[dict[str, Any]]) -> Taken:
        return Taken()

    def rotation(self, shift: Shift, device: torch.device) -> torch.Tensor | None:
        return None  # no attention of a U-Net has positions

    def tap_lent(
        self, options: Options, layers: Collection[Layer], read: HiddenReader, queries: bool = False
    ) -> Options:
        return self.tap_hidden_states(options, layers, read)

    def tap_hidden_states(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        def whole(layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens) -> None:
            # Other packs divide or merge the queries alone.
            read(layer, n if n.shape[1] == tokens.total else context, tokens)

        return _with_patch(options, "attn1_patch", layers, whole)

    def tap_features(self, options: Options, kind: str, layers: Collection[Layer], read: HiddenReader) -> Options:
        if kind == CROSS_OUTPUT:
            return _with_patch(options, "attn2_output_patch", layers, read)
        slot = {SELF_INPUT: "attn1_patch", CROSS_INPUT: "attn2_patch"}[kind]
        return _with_patch(
            options, slot, layers, lambda layer, n, context, value, tokens: read(layer, n, tokens), first=True
        )

    def tap_cross_attention(self, options: Options, layers: Collection[Layer], read: CrossAttentionReader) -> Options:
        replaced = options.get("patches_replace", {})
        slots = dict(replaced.get("attn2", {}))
        # The host prefers a layer's own slot to its block's slot.
        slots |= {
            key: _CrossAttentionHook(layer, read, slots.get(key, slots.get(key[:2]))) for layer, key in _keys(layers)
        }
        return {**options, "patches_replace": {**replaced, "attn2": slots}}

    def tap_self_attention_output(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        return _with_patch(options, "attn1_output_patch", layers, read)

    def change_self_attention(
        self, options: Options, layers: Collection[Layer], change: SelfAttentionChange
    ) -> Options:
        options = _with_patch(options, "attn1_patch", layers, change.inputs)
        options = _with_patch(options, "attn1_output_patch", layers, change.output)
        if not change.attends:
            return options
        return _attending(options, "attn1", layers, change)

    def replaces_self_attention(self, options: Options, layers: Collection[Layer]) -> bool:
        slots = options.get("patches_replace", {}).get("attn1", {})
        return any(layer in slots or layer[:2] in slots for layer in layers)

    def attend_across(self, options: Options, layers: Collection[Layer], change: Attending) -> Options:
        return _attending(options, "attn2", layers, change)

    def change_cross_attention(
        self, options: Options, layers: Collection[Layer], change: CrossAttentionChange
    ) -> Options:
        return _with_patch(
            options, "attn2_patch", layers, lambda layer, n, context, value, tokens: change(layer, n, context, value)
        )


UNET = UNet()


def _decoder_stages(network: torch.nn.Module) -> tuple[tuple[Block, ...], ...]:
    """The decoder's blocks with attention by resolution, coarse to fine."""
    assert isinstance(network, UNetModel)
    stages: list[list[Block]] = [[]]
    for number, module in enumerate(network.output_blocks):
        if _depth(module):
            stages[-1].append(Block("output", number, _depth(module)))
        if any(isinstance(m, Upsample) for m in module.children()):
            stages.append([])
    return tuple(tuple(stage) for stage in stages if stage)


def _depth(module: torch.nn.Module) -> int:
    return sum(len(m.transformer_blocks) for m in module.children() if isinstance(m, host_attention.SpatialTransformer))


def _stages(network: UNetModel) -> dict[str, list[torch.nn.Module]]:
    """The network's blocks by kind, in call order."""
    middle = [] if network.middle_block is None else [network.middle_block]
    return {"input": [*network.input_blocks], "middle": [*middle], "output": [*network.output_blocks]}


def _widths(module: torch.nn.Module) -> list[int]:
    """The width of each of a block's transformers."""
    transformers = [m for m in module.children() if isinstance(m, host_attention.SpatialTransformer)]
    blocks: list[Any] = [block for m in transformers for block in m.transformer_blocks]
    return [block.norm1.normalized_shape[0] for block in blocks]


def _halves(module: torch.nn.Module) -> bool:
    return any(isinstance(m, Downsample) for m in module.children())


def _tokens(options: Options) -> Tokens:
    height, width = options["activations_shape"][-2:]
    return Tokens((height, width))


def _with_patch(
    options: Options, slot: str, layers: Collection[Layer], act: Callable, *, first: bool = False
) -> Options:
    patches, hook = options.get("patches", {}), _Hook(frozenset(layers), act)
    present = patches.get(slot, ())
    return {**options, "patches": {**patches, slot: [hook, *present] if first else [*present, hook]}}


def _attending(options: Options, slot: str, layers: Collection[Layer], change: Attending) -> Options:
    replaced = options.get("patches_replace", {})
    slots = dict(replaced.get(slot, {}))
    slots |= {key: _AttendHook(layer, change, slots.get(key, slots.get(key[:2]))) for layer, key in _keys(layers)}
    return {**options, "patches_replace": {**replaced, slot: slots}}


def _keys(layers: Collection[Layer]) -> list[tuple[Layer, tuple]]:
    """Each layer with its key in the host's slots: a plain tuple, since torch.compile takes a subclass for another."""
    return [(layer, tuple(layer)) for layer in layers]


def _layer(extra_options: Options) -> Layer:
    kind, number = extra_options["block"]
    return Layer(kind, number, extra_options["block_index"])


@dataclass(frozen=True)
class _Hook:
    """Applies act(layer, *tensors, tokens) at the chosen layers; a result of None keeps the tensors."""

    layers: frozenset[Layer]
    act: Callable

    @uncompiled
    def __call__(self, *given):
        *tensors, extra_options = given
        layer = _layer(extra_options)
        made = self.act(layer, *tensors, _tokens(extra_options)) if layer in self.layers else None
        if made is not None:
            return made
        return tuple(tensors) if len(tensors) > 1 else tensors[0]


@dataclass(frozen=True)
class _AttendHook:
    """Runs a change's `attend` in place of a layer's attention."""

    layer: Layer
    change: Attending
    previous: Callable | None

    @uncompiled
    def __call__(self, q, k, v, extra_options):
        attention = UNetAttention(extra_options, self.previous)
        return self.change.attend(self.layer, q, k, v, attention=attention, tokens=_tokens(extra_options))


@dataclass(frozen=True)
class _CrossAttentionHook:
    """Passes queries and keys to a reader, then runs the layer's cross-attention."""

    layer: Layer
    read: CrossAttentionReader
    previous: Callable | None

    @uncompiled
    def __call__(self, q, k, v, extra_options):
        self.read(self.layer, q, k, extra_options["n_heads"], _tokens(extra_options))
        return UNetAttention(extra_options, self.previous)(q, k, v)
