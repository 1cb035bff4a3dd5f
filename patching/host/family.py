"""The interface between the pack and a kind of network: every method reads and changes attention through it alone.

A new family is one file with a `Family` and one entry in `families.FAMILIES`. The interface speaks of one sequence per
layer, whose picture's tokens `Tokens` finds, so that a transformer with text and picture in one sequence fits it as a
U-Net does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

import torch

from .blocks import Block, Layer
from .tokens import Tokens

LATE, MIDDLE, COARSE = "late", "middle", "coarse"
"""Presets of blocks: from the same depth on as MasaCtrl's; the decoder's middle resolution; all its resolutions but the
finest."""

Options = dict[str, Any]
"""A model call's `transformer_options`; never changed in place."""

HiddenReader = Callable[[Layer, torch.Tensor, Tokens], None]
"""Reads (layer, hidden states [rows, tokens.total, channels] before the self-attention's projections, tokens)."""

CrossAttentionReader = Callable[[Layer, torch.Tensor, torch.Tensor, int, Tokens], None]
"""Reads (layer, projected q [rows, tokens.total, width], projected k [rows, text tokens, width], heads, tokens)."""

Attention = Callable[..., torch.Tensor]
"""attention(q, k, v, mask=None, long=False) -> [rows, n, width]: the layer's own attention, of projected but unsplit
heads.

long: for many more keys than the layer's own. On a CPU that selects an implementation whose time and memory grow less
with them, unless `optimized_attention_override` or a patch of this layer has already chosen one.
"""

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""The tensors that queries, keys and values are projected from, each [rows, tokens, channels]."""


class SelfAttentionChange:
    """A change of self-attention layers during one model call. Subclasses override what they change; this one changes
    nothing."""

    @property
    def attends(self) -> bool:
        """Whether `attend` is overridden; otherwise the layer's own attention runs on the changed inputs."""
        return False

    def inputs(
        self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens
    ) -> Inputs:
        """The inputs of the projections to queries, keys and values."""
        return n, context, value

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        """The attention of projected queries, keys and values, [rows, n, width]."""
        return attention(q, k, v)

    def output(self, layer: Layer, output: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """The output projection's result, [rows, n, channels], before it is added to the hidden states."""
        return output


CrossAttentionChange = Callable[[Layer, torch.Tensor, torch.Tensor, torch.Tensor], Inputs]
"""(layer, n, context, value) -> the inputs of a cross-attention's projections."""


class Family(Protocol):
    """A kind of network, as taps and swaps see it. Every method that takes `options` returns new ones for one model
    call."""

    name: str
    models: str
    """The checkpoints it covers, for messages."""

    def fits(self, network: torch.nn.Module) -> bool:
        """Whether a network is of this family."""
        ...

    def blocks(self, network: torch.nn.Module) -> tuple[Block, ...]:
        """The blocks with attention, in call order."""
        ...

    def preset(self, network: torch.nn.Module, name: str) -> tuple[str, ...]:
        """The names of the blocks that LATE, MIDDLE or COARSE stands for."""
        ...

    def tap_hidden_states(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Shows the hidden states of `layers` to `read`, after every patch that is already there."""
        ...

    def tap_cross_attention(self, options: Options, layers: Collection[Layer], read: CrossAttentionReader) -> Options:
        """Shows queries and keys of `layers` to `read`, then runs the attention as before."""
        ...

    def tap_self_attention_output(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Shows the self-attention's output at `layers`, after its output projection, to `read`."""
        ...

    def change_self_attention(
        self, options: Options, layers: Collection[Layer], change: SelfAttentionChange
    ) -> Options:
        """Applies `change` to the self-attention of `layers`, after every patch that is already there."""
        ...

    def replaces_self_attention(self, options: Options, layers: Collection[Layer]) -> bool:
        """Whether another patch computes the self-attention of any of `layers` itself; such a patch takes no mask of
        keys."""
        ...

    def change_cross_attention(
        self, options: Options, layers: Collection[Layer], change: CrossAttentionChange
    ) -> Options:
        """Projects the cross-attention of `layers` from the tensors that `change` returns."""
        ...
