"""Temporary forwards of a network's layers and blocks, by which its calls record a graph."""

from __future__ import annotations

from typing import NamedTuple

import comfy.ldm.modules.attention as host_attention
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

from .dit_grad import block_forward, is_transformer_block, rotates
from .frozen_blocks import recomputed, recomputed_jointly
from .frozen_layers import Forward, frozen_forward


class Recording(NamedTuple):
    """Settings of a graph.

    fewest: the least number of tokens for which a U-Net's block is recomputed. mutable: other packs' patches may
    modify in place what the graph has saved. mixed: inference tensors that are no layer's weights may take part.
    shared: the host may add to skip connections in place, as it does for ControlNets.
    """

    fewest: int
    mutable: bool
    mixed: bool
    shared: bool


class Made(NamedTuple):
    """Forwards of a network's layers. transformers: True if there are blocks of a diffusion transformer among them.

    others: the layers with another pack's forward, which may do more than the layer's weight says.
    """

    forwards: list[tuple[torch.nn.Module, Forward]]
    others: list[torch.nn.Module]
    transformers: bool


class Forwards:
    """The forwards of networks, made once for all gradients of a run. They hold modules, and no weights."""

    def __init__(self):
        self._layers: dict[torch.nn.Module, list[torch.nn.Module]] = {}
        self._made: dict[tuple[torch.nn.Module, Recording], Made] = {}
        self._rotating: dict[torch.nn.Module, bool] = {}

    def of(self, network: torch.nn.Module, recording: Recording) -> Made:
        known = self._made.get((network, recording))
        if known is None or any("forward" not in layer.__dict__ for layer in known.others):
            known = self._made[network, recording] = _made(self._layers_of(network), recording)
        return known

    def rotating(self, network: torch.nn.Module) -> bool:
        """True for a network whose rotation of queries and keys has no gradient."""
        if network not in self._rotating:
            self._rotating[network] = any(rotates(layer) for layer in self._layers_of(network))
        return self._rotating[network]

    def _layers_of(self, network: torch.nn.Module) -> list[torch.nn.Module]:
        if network not in self._layers:
            self._layers[network] = [*network.modules()]
        return self._layers[network]


def _made(layers: list[torch.nn.Module], recording: Recording) -> Made:
    made = Made([], [], any(is_transformer_block(layer) for layer in layers))
    how = {"mutable": recording.mutable, "mixed": recording.mixed}
    for layer in layers:
        if "forward" in layer.__dict__:
            made.others.append(layer)
            continue
        if is_transformer_block(layer):
            forward = recomputed_jointly(block_forward(layer), **how)
        elif isinstance(layer, (ResBlock, host_attention.BasicTransformerBlock)):
            forward = recomputed(layer.forward, recording.fewest, **how)
        else:
            # Transformers' blocks add to their own sequences in place.
            forward = frozen_forward(layer, recording.shared or made.transformers)
        if forward is not None:
            made.forwards.append((layer, forward))
    return made
