"""Swaps: what self- and cross-attention layers are given in one model call instead of the target's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ...kernels.adaptive_mask import blended
from ..host.blocks import Layer
from ..host.family import Attention, SelfAttentionChange
from ..host.rows import take
from ..host.tokens import Tokens

REPLACE, APPEND = "replace", "append"


def differ(weights: Sequence[float], attention: str) -> bool:
    """Whether references of these weights share the attention in another way than unweighted ones."""
    return len({*weights, 1.0} if attention == APPEND else set(weights)) > 1


@dataclass(frozen=True)
class Borrowed:
    """One reference's tokens at the layers of one model call, in a call of its own (`features`) or as rows of the same
    one (`rows`).

    features: [1, tokens, channels] hidden states by layer, masked; rows: one per target row; tokens(size): which of the
    rows' tokens.
    """

    weight: float
    features: dict[Layer, torch.Tensor] | None = None
    rows: tuple[int, ...] = ()
    tokens: Callable[[tuple[int, int]], torch.Tensor | None] | None = None


@dataclass(frozen=True, eq=False)
class ReferenceSwap(SelfAttentionChange):
    """Self-attention of the first `targets` rows looks at the references' keys and values (MasaCtrl, arXiv 2304.08465,
    eq. 3), and its output is blended with the layout's under the mask (Layout-and-Retouch, arXiv 2407.09779, Algorithm
    1, lines 10 and 11).

    layout(layer, output): the layout's outputs for the target's rows, or None to leave them; mask(size): [targets, n,
    1]. strength: of the whole change; 1 is the paper's.
    """

    targets: int
    references: tuple[Borrowed, ...]
    attention: str = REPLACE
    strength: float = 1.0
    layout: Callable[[Layer, torch.Tensor], torch.Tensor] | None = None
    mask: Callable[[tuple[int, int]], torch.Tensor] | None = None

    @property
    def together(self) -> bool:
        return any(b.rows for b in self.references)

    @property
    def weighted(self) -> bool:
        """Whether the weights differ from each other or from that of the target's own tokens: a factor common to all
        keys cancels."""
        return differ([b.weight for b in self.references], self.attention)

    @property
    def attends(self) -> bool:
        return bool(self.references) and (self.together or self.weighted or self.strength < 1)

    @property
    def _keeps_own(self) -> bool:
        return self.attention == APPEND or self.strength < 1

    def inputs(self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens):
        borrowed = [b.features[layer] for b in self.references if b.features is not None]
        if not borrowed or self.together:
            return n, context, value
        features = torch.cat(borrowed, 1).to(n).expand(len(n), -1, -1)
        if not self._keeps_own:
            return n, features, features
        return n, torch.cat([context, features], 1), torch.cat([value, features], 1)

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ):
        if not self.together:
            return self._attend(q, k, v, self._counts(layer), attention)
        first = self.targets
        keys, values, counts = [k[:first]], [v[:first]], []
        for borrowed in self.references:
            chosen = borrowed.tokens(tokens.size) if borrowed.tokens else None
            for parts, projected in ((keys, k), (values, v)):
                rows = torch.stack([projected[row] for row in borrowed.rows])
                parts.append(rows if chosen is None else rows[:, chosen])
            counts.append(keys[-1].shape[1])
        if not self._keeps_own:
            keys, values = keys[1:], values[1:]
        swapped = self._attend(q[:first], torch.cat(keys, 1), torch.cat(values, 1), counts, attention)
        return torch.cat([swapped, attention(q[first:], k[first:], v[first:])])

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, counts: Sequence[int], attention: Attention
    ) -> torch.Tensor:
        """counts: how many of the last keys belong to each reference."""
        own = k.shape[1] - sum(counts)
        if self.attention == APPEND or not self._keeps_own:
            swapped = attention(q, k, v, **self._bias(q, own, counts))
        else:
            swapped = attention(q, k[:, own:], v[:, own:], **self._bias(q, 0, counts))
        if self.strength == 1:
            return swapped
        return torch.lerp(attention(q, k[:, :own], v[:, :own]), swapped, self.strength)

    def _bias(self, q: torch.Tensor, own: int, counts: Sequence[int]) -> dict:
        """log(weight) on a reference's logits multiplies its tokens' share of the attention by the weight."""
        if not self.weighted:
            return {}
        parts = [q.new_zeros(own)]
        parts += [q.new_full((count,), math.log(b.weight)) for b, count in zip(self.references, counts, strict=True)]
        return {"mask": torch.cat(parts).expand(1, q.shape[1], -1)}

    def _counts(self, layer: Layer) -> list[int]:
        return [b.features[layer].shape[1] for b in self.references if b.features is not None]

    def output(self, layer: Layer, output: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        if self.layout is None or self.mask is None:
            return output
        mask = self.mask(tokens.size)
        if self.strength < 1:
            mask = 1 - self.strength * (1 - mask)
        first = self.targets
        changed = blended(output[:first], self.layout(layer, output).to(output), mask)
        return changed if len(output) == first else torch.cat([changed, output[first:]])


class LayoutInputs(Protocol):
    """The layout's own inputs at a layer, one row per target row."""

    def of_self(self, layer: Layer, n: torch.Tensor) -> torch.Tensor:
        """[targets, tokens, channels] hidden states; n: those of the whole call."""
        ...

    def of_cross(self, layer: Layer, n: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states and text, [targets, tokens, channels] each; n, context: those of the whole call."""
        ...


@dataclass(frozen=True, eq=False)
class LayoutOfSameCall:
    """The layout's rows come after the target's in one call. order: for every target row, its layout row among them."""

    targets: int
    order: tuple[int, ...]

    def of_self(self, layer: Layer, n: torch.Tensor) -> torch.Tensor:
        return take(n[self.targets :], self.order)

    def of_cross(self, layer: Layer, n: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return take(n[self.targets :], self.order), take(context[self.targets :], self.order)


@dataclass(frozen=True, eq=False)
class RecordedLayout:
    """The layout had a call of its own. hidden: inputs of self-attention; crossed: of cross-attention, with their text."""

    hidden: dict[Layer, torch.Tensor]
    crossed: dict[Layer, tuple[torch.Tensor, torch.Tensor]]

    def of_self(self, layer: Layer, n: torch.Tensor) -> torch.Tensor:
        return self.hidden[layer]

    def of_cross(self, layer: Layer, n: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.crossed[layer]


@dataclass(frozen=True, eq=False)
class LayoutSwap(SelfAttentionChange):
    """Queries, keys and values of the first rows come from the layout (Layout-and-Retouch, arXiv 2407.09779, Algorithm
    1, line 9).

    values: whether the values come along. strength: 1 is the paper's.
    """

    targets: int
    values: bool
    layout: LayoutInputs
    strength: float = 1.0

    def inputs(self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens):
        layout = self.layout.of_self(layer, n)
        value = self._changed(value, layout) if self.values else value
        return self._changed(n, layout), self._changed(context, layout), value

    def cross_inputs(self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor):
        layout, text = self.layout.of_cross(layer, n, context)
        if text.shape[1] != context.shape[1]:
            raise ValueError(
                "MultiSourceAttnSwap: expected the layout's prompt and the target's to have one length, got "
                f"{text.shape[1]} and {context.shape[1]} tokens; make the longer prompt shorter, or set early_swap to "
                "fork."
            )
        value = self._changed(value, text) if self.values else value
        return self._changed(n, layout), self._changed(context, text), value

    def _changed(self, own: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        first, layout = self.targets, layout.to(own)
        changed = layout if self.strength == 1 else torch.lerp(own[:first], layout, self.strength)
        return changed if len(own) == first else torch.cat([changed, own[first:]])
