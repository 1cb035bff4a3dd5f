"""The interface between the pack and a kind of network: every method reads and changes attention through it alone.

Families are `unet.UNet` and `dit.DiT`, which has one row per transformer in `dit_table`. A layer has one sequence of
tokens, and `Tokens` locates the picture's tokens in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch

from .blocks import Block, Layer
from .reference_places import Taken
from .tokens import Tokens

if TYPE_CHECKING:
    from comfy.model_base import BaseModel

LATE, MIDDLE, COARSE, MAPS = "late", "middle", "coarse", "maps"
"""Presets of blocks.

LATE: from MasaCtrl's depth on. MIDDLE: the decoder's middle resolution. COARSE: all its resolutions but the finest.
MAPS: those whose attention follows a layout, which a network can state for itself.
"""

SELF_INPUT, CROSS_INPUT, CROSS_OUTPUT = "self_attention_input", "cross_attention_input", "cross_attention_output"
FEATURES = (SELF_INPUT, CROSS_INPUT, CROSS_OUTPUT)
"""Kinds of features of a layer, [rows, tokens.total, channels].

Inputs are the normalized hidden states before an attention's projections. The output is that of cross-attention after
all patches, before it is added to the hidden states.
"""

HIDDEN, KEYS = "hidden", "keys"
"""Kinds of what a layer lends: hidden states before its projections, or finished keys and values, joined."""

LATENT = "likeness.latent"
"""The entry of `transformer_options` with the shape of a model call's latents, which transformers do not tell."""

Options = dict[str, Any]
"""The `transformer_options` of a model call; never changed in place."""

HiddenReader = Callable[[Layer, torch.Tensor, Tokens], None]
"""Reads (layer, hidden states [rows, tokens.total, channels] before the self-attention's projections, tokens)."""

CrossAttentionReader = Callable[[Layer, torch.Tensor, torch.Tensor, int, Tokens], None]
"""Reads (layer, projected q [rows, tokens.total, width], projected k [rows, text tokens, width], heads, tokens)."""

Attention = Callable[..., torch.Tensor]
"""attention(q, k, v, mask=None, long=False) -> [rows, n, width]: the layer's own attention.

q, k, v: projected, heads not yet split.
long: set for many more keys than the layer's own. On a CPU it selects an implementation that scales better with them,
    unless `optimized_attention_override` or a patch of this layer has already chosen one.
"""


@runtime_checkable
class Weighs(Protocol):
    """An `Attention` of a layer that tells its weights."""

    def weighing(self, total: int, query: int) -> Attention:
        """An attention of one query that returns its weights, [rows, 1, total], by the numbers of keys.

        It takes the numbers, [rows, m, 1], as values. query: the query's place in the layer's sequence.
        """
        ...


Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Inputs of the projections to queries, keys and values, each [rows, tokens, channels]."""


class Resolution(NamedTuple):
    """The size of a model's training pictures, in latent pixels.

    side: of a square picture. multiple: sides that are multiples of it halve evenly down to the coarsest layers.
    """

    side: int
    multiple: int


class Shift(NamedTuple):
    """A move of a picture's keys in tokens: along the index of pictures, down and to the right."""

    index: float = 0.0
    down: float = 0.0
    right: float = 0.0


class SelfAttentionChange:
    """A change of self-attention layers during one model call.

    The base class changes nothing; subclasses override the parts they change. Transformers that join text and picture
    call `attend` and `output` alone. There `attention` is a `JointAttention`, and the picture's tokens come first;
    `output` gets the picture's tokens only, before the output projection.
    """

    @property
    def attends(self) -> bool:
        """True if `attend` is overridden; otherwise the layer's own attention runs on the changed inputs."""
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
        """The result of the output projection, [rows, n, channels], before the residual addition."""
        return output


class Attending(Protocol):
    """Computes the attention of layers during one model call."""

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        """The attention of projected queries, keys and values, [rows, n, width]."""
        ...


CrossAttentionChange = Callable[[Layer, torch.Tensor, torch.Tensor, torch.Tensor], Inputs]
"""(layer, n, context, value) -> the inputs of a cross-attention's projections."""


class Family(Protocol):
    """A kind of network and its hooks. Methods that take `options` return new ones for one model call."""

    @property
    def name(self) -> str: ...

    @property
    def models(self) -> str:
        """Its checkpoints, named in messages."""
        ...

    @property
    def lends(self) -> str:
        """HIDDEN or KEYS: what a picture lends to another one."""
        ...

    def fits(self, network: torch.nn.Module) -> bool:
        """True if a network belongs to this family."""
        ...

    def blocks(self, network: torch.nn.Module) -> tuple[Block, ...]:
        """The blocks with attention, in call order."""
        ...

    def preset(self, network: torch.nn.Module, name: str) -> tuple[str, ...]:
        """The names of the blocks in the preset LATE, MIDDLE or COARSE."""
        ...

    def training_resolution(self, model: BaseModel) -> Resolution:
        """The size of the pictures that a model was trained on."""
        ...

    def hidden_shapes(
        self, network: torch.nn.Module, size: tuple[int, int]
    ) -> dict[Layer, tuple[tuple[int, int], int]]:
        """((height, width), channels) of what every attention layer lends, for latents of `size`."""
        ...

    @property
    def centered(self) -> bool:
        """True where the positions of tokens count from the picture's center."""
        ...

    @property
    def places_by_text(self) -> bool:
        """True where the length of the prompt moves the picture's tokens."""
        ...

    @property
    def text_multiple(self) -> int:
        """The host fills a prompt with learned tokens to a multiple of this length."""
        ...

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the finest layer's tokens, for latents of `size`."""
        ...

    def taken(self, prompts: Iterable[dict[str, Any]]) -> Taken:
        """The places of reference latents that the host itself adds for a run's prompts: entries of its conds."""
        ...

    def rotation(self, shift: Shift, device: torch.device) -> torch.Tensor | None:
        """The rotation that moves finished keys by a shift, [channels / 2, 2, 2]; None where there is none."""
        ...

    def tap_lent(
        self, options: Options, layers: Collection[Layer], read: HiddenReader, queries: bool = False
    ) -> Options:
        """Passes what `layers` lend, of the picture's tokens, to `read`.

        queries: True to put the queries before finished keys and values.
        """
        ...

    def tap_hidden_states(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Passes the hidden states of `layers` to `read`, after all existing patches."""
        ...

    def tap_features(self, options: Options, kind: str, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Passes the features of one of FEATURES to `read`.

        Inputs are read before other packs' patches, which may divide or merge tokens and repeat rows.
        """
        ...

    def tap_cross_attention(self, options: Options, layers: Collection[Layer], read: CrossAttentionReader) -> Options:
        """Passes queries and keys of `layers` to `read`, then runs the attention unchanged."""
        ...

    def tap_self_attention_output(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Passes the self-attention's output at `layers`, after its output projection, to `read`."""
        ...

    def change_self_attention(
        self, options: Options, layers: Collection[Layer], change: SelfAttentionChange
    ) -> Options:
        """Applies `change` to the self-attention of `layers`, after all existing patches."""
        ...

    def replaces_self_attention(self, options: Options, layers: Collection[Layer]) -> bool:
        """True if another patch computes the self-attention of any of `layers`; such a patch accepts no mask."""
        ...

    def attend_across(self, options: Options, layers: Collection[Layer], change: Attending) -> Options:
        """Lets `change` compute the cross-attention of `layers`."""
        ...

    def change_cross_attention(
        self, options: Options, layers: Collection[Layer], change: CrossAttentionChange
    ) -> Options:
        """Replaces the inputs of the cross-attention projections of `layers` by those that `change` returns."""
        ...
