"""Diffusion transformers behind the interface `Family`: one class for all families of `dit_table`.

A picture lends finished keys and values, with positions in the keys. Hidden states before the projections stay inside
the network, and the prompt stands in the same sequence, so there is no cross-attention to change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...kernels.attention import rotated
from .blocks import Block, Layer, published
from .dit_hook import Act, Attended, Reader, hooked, latent_of, numbered, watching_sides
from .dit_table import Row
from .family import (
    COARSE,
    CROSS_OUTPUT,
    KEYS,
    LATE,
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

if TYPE_CHECKING:
    from comfy.model_base import BaseModel


@dataclass(frozen=True)
class DiT:
    """The family of one network; see `Family`."""

    row: Row
    network: torch.nn.Module
    lends = KEYS

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def models(self) -> str:
        return self.row.models

    @property
    def halves(self) -> bool:
        """See `kernels.attention.rotated`."""
        return self.row.halves

    @property
    def centered(self) -> bool:
        return self.row.centered

    @property
    def places_by_text(self) -> bool:
        return self.row.picture_last

    @property
    def text_multiple(self) -> int:
        return getattr(self.network, "pad_tokens_multiple", None) or 1 if self.places_by_text else 1

    @property
    def text_refiners(self) -> int:
        """The number of attention calls over the prompt alone before the first block."""
        return len(getattr(self.network, "context_refiner", ()))

    def fits(self, network: torch.nn.Module) -> bool:
        return self.row.fits(network)

    def blocks(self, network: torch.nn.Module) -> tuple[Block, ...]:
        return tuple(
            Block(kind, number, 1) for kind, name in self.row.stacks for number in range(len(getattr(network, name)))
        )

    def preset(self, network: torch.nn.Module, name: str) -> tuple[str, ...]:
        """Published sets of layers where there are some, otherwise the later half.

        LATE: those that read content (FreeFlux, arXiv 2503.16153). COARSE: double10 to double18 (ConceptAttention,
        arXiv 2502.04320).
        """
        sets = published(self.blocks(network))
        return sets[{LATE: "content", COARSE: "maps"}.get(name, "late")]

    def training_resolution(self, model: BaseModel) -> Resolution:
        # A configuration may state its own, as the demo's does. Classes do not warn of what they do not know.
        side = getattr(type(model.model_config), "training_side", self.row.side)
        side = int(side / getattr(model.latent_format, "spacial_downscale_ratio", 8))
        return Resolution(side, self._patch)

    def hidden_shapes(
        self, network: torch.nn.Module, size: tuple[int, int]
    ) -> dict[Layer, tuple[tuple[int, int], int]]:
        width, grid = self.row.width(network), self.grid(size)
        return {layer: (grid, 2 * width) for block in self.blocks(network) for layer in block.layers}

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        patch = self._patch
        return -(-size[0] // patch), -(-size[1] // patch)

    def tap_lent(
        self, options: Options, layers: Collection[Layer], read: HiddenReader, queries: bool = False
    ) -> Options:
        """Passes finished keys and values, joined along their channels, to `read`; with `queries` before them.

        Keys are moved to where the picture would stand without a prompt, if its length moves the picture.
        """

        def joined(layer: Layer, attended: Attended, tokens: Tokens) -> None:
            q, k, v = (tokens.of_picture(t) for t in (attended.q, attended.k, attended.v))
            origin = self.origin(tokens, k.device)
            if origin is not None:
                q, k = (rotated(t, origin.mT, self.halves) for t in (q, k))
            read(layer, torch.cat([q, k, v] if queries else [k, v], -1), Tokens(tokens.size))

        return self.tap_attention(options, layers, joined)

    def tap_attention(
        self, options: Options, layers: Collection[Layer], read: Reader, outputs: bool = False
    ) -> Options:
        """Passes queries, keys, values and with `outputs` the output of `layers` to `read`, in the host's order."""
        return self._with(options, Act(frozenset(layers), read, outputs=outputs))

    def tap_hidden_states(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        return self.tap_lent(options, layers, read)

    def tap_features(self, options: Options, kind: str, layers: Collection[Layer], read: HiddenReader) -> Options:
        """Passes values for SELF_INPUT, or the attention's output for CROSS_OUTPUT."""
        if kind == CROSS_OUTPUT:
            return self.tap_self_attention_output(options, layers, read)
        if kind != SELF_INPUT:
            raise ValueError(f"expected features of a {self.name} model, got {kind}, which it does not have.")
        return self.tap_attention(options, layers, lambda layer, attended, tokens: read(layer, attended.v, tokens))

    def tap_cross_attention(self, options: Options, layers: Collection[Layer], read: CrossAttentionReader) -> Options:
        """Passes the queries of all tokens and the prompt's keys to `read`."""

        def of_text(layer: Layer, attended: Attended, tokens: Tokens) -> None:
            keys = attended.k if self.row.crosses else tokens.of_text(attended.k)
            read(layer, attended.q, keys, attended.heads, tokens)

        return self._with(options, Act(frozenset(layers), of_text, crosses=self.row.crosses))

    def tap_self_attention_output(self, options: Options, layers: Collection[Layer], read: HiddenReader) -> Options:
        def output(layer: Layer, attended: Attended, tokens: Tokens) -> None:
            assert attended.output is not None
            read(layer, attended.output, tokens)

        return self.tap_attention(options, layers, output, outputs=True)

    def change_self_attention(
        self, options: Options, layers: Collection[Layer], change: SelfAttentionChange
    ) -> Options:
        """Lets `change` compute the joint attention of `layers`; it gets a `JointAttention`."""
        return self._with(options, Act(frozenset(layers), change=change))

    def replaces_self_attention(self, options: Options, layers: Collection[Layer]) -> bool:
        """Never: another override is called with all that the network itself is called with."""
        return False

    def attend_across(self, options: Options, layers: Collection[Layer], change: Attending) -> Options:
        """Changes nothing: the prompt's tokens keep their own attention."""
        return options

    def change_cross_attention(
        self, options: Options, layers: Collection[Layer], change: CrossAttentionChange
    ) -> Options:
        """Changes nothing: the prompt's tokens keep their own attention."""
        return options

    def taken(self, prompts: Iterable[dict[str, Any]]) -> Taken:
        found = Taken()
        for prompt in prompts:
            if given := prompt.get("reference_latents"):
                widths = [self.grid((latent.shape[-2], latent.shape[-1]))[1] for latent in given]
                method = prompt.get("reference_latents_method")
                found = found.joined(self.row.places(self.network, method, widths))
        return found

    def rotation(self, shift: Shift, device: torch.device) -> torch.Tensor | None:
        """The rotation that moves finished keys by a shift, [channels / 2, 2, 2]; None for none."""
        if self.row.embedder is None or not any(shift):
            return None
        network: Any = self.network
        embedder = getattr(network, self.row.embedder)
        if self.row.crosses:
            sizes = [round(n) + 1 for n in shift]
            return embedder.generate_embeddings((1, *sizes, 1), device=device)[-1]
        ids = torch.zeros(1, 1, len(embedder.axes_dim), device=device)
        for axis, amount in enumerate((shift.index * self.row.step(network), shift.down, shift.right)):
            ids[..., axis] = amount
        return embedder(ids).reshape(-1, 2, 2).float()

    def index_rotations(self, amounts: torch.Tensor) -> torch.Tensor:
        """Rotations along the index of pictures by the amounts [rows, tokens]: [rows, tokens, channels / 2, 2, 2]."""
        network: Any = self.network
        embedder = getattr(network, str(self.row.embedder))
        ids = torch.zeros(*amounts.shape, len(embedder.axes_dim), device=amounts.device)
        ids[..., 0] = amounts
        return embedder(ids)[:, 0].float()

    def origin(self, tokens: Tokens, device: torch.device) -> torch.Tensor | None:
        """The rotation of a picture's keys whose place depends on the prompt's length; None for fixed places."""
        return self.rotation(Shift(index=tokens.first + 1.0), device) if self.row.picture_last else None

    def layer_of(self, options: Options, queries: int, keys: int, cross: bool | None) -> tuple[Layer | None, bool]:
        """The layer of an attention call, None for refiners and the like, and True for cross-attention."""
        kind, number = options.get("block_type", self.row.kind), options.get("block_index")
        if kind is None or number is None:
            return None, False
        if self.row.crosses:
            return Layer(kind, number, 0), keys != queries if cross is None else cross
        if self.row.numbers and queries == self._picture(options):
            return None, False  # SD 3.5 medium's second attention, of the picture alone
        return Layer(kind, number, 0), False

    def tokens(self, options: Options, total: int) -> Tokens:
        """The tokens of a layer's sequence of `total`."""
        size = self.grid(latent_of(options, self.name))
        picture = size[0] * size[1]
        after = 0
        if self.row.picture_last:
            multiple = getattr(self.network, "pad_tokens_multiple", None)
            after = -picture % multiple if multiple else 0
        elif not self.row.crosses:
            after = sum(options.get("reference_image_num_tokens", ()))
        first = total - picture - after
        if first < 0:
            raise ValueError(
                f"expected at least {picture + after} tokens in attention of a {self.name} model, got {total}; remove "
                "the node that merges or divides attention from model."
            )
        return Tokens(size, first, after, (0, first))

    @property
    def _patch(self) -> int:
        return self.row.patch(self.network)

    def _picture(self, options: Options) -> int:
        height, width = self.grid(latent_of(options, self.name))
        return height * width

    def _with(self, options: Options, act: Act) -> Options:
        options = hooked(self, options, act)
        if self.row.crosses:
            options = watching_sides(options)
        return numbered(options, str(self.row.kind), act.layers) if self.row.numbers else options
