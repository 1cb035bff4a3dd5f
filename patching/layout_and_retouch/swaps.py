"""Changes of attention in one model call of a retouch: the references' keys and values, the layout's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from ...kernels.layout_and_retouch import blended, followed, reference_attention, weights_matter
from ..features.shared_attention import Shared, SharedAttention
from ..host.blocks import Layer
from ..host.family import Attention, Inputs, SelfAttentionChange, Weighs
from ..host.joint_attention import JointAttention
from ..host.rows import take
from ..host.tokens import Tokens, check_queries
from .looking import ReferenceLooks
from .settings import FORK, NODE

LayoutOutput = Callable[[Layer, torch.Tensor], torch.Tensor]
"""(layer, output of the whole call) -> the layout's outputs for the target's rows, [targets, n, width]."""


@dataclass(frozen=True, eq=False)
class ReferenceSwap(SharedAttention):
    """The target's rows attend to the references, and the layout's outputs are blended in under the mask.

    Layout-and-Retouch (arXiv 2407.09779), Algorithm 1, lines 10 and 11. append: keep the target's own keys and values.
    strength: of the whole change, 1 is the paper's. mask((height, width)): [targets, n, 1]. Without layout and mask
    nothing is blended.
    """

    append: bool = False
    strength: float = 1.0
    layout: LayoutOutput | None = None
    mask: Callable[[tuple[int, int]], torch.Tensor] | None = None
    looks: ReferenceLooks | None = None

    @property
    def weighted(self) -> bool:
        return weights_matter(self.weights, self.append)

    @property
    def attends(self) -> bool:
        # Otherwise the changed inputs are enough, and the layer's own attention runs on them.
        needed = self.of_same_call or self.weighted or self.strength < 1 or bool(self.replaced) or self.spread > 1
        return bool(self.references) and (needed or self.looks is not None)

    @property
    def keeps_own(self) -> bool:
        return self.append or self.strength < 1

    def inputs(
        self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens
    ) -> Inputs:
        check_queries(n, context, tokens, NODE, merged=True)
        return super().inputs(layer, n, context, value, tokens)

    def share(self, shared: Shared, attention: Attention) -> torch.Tensor:
        return reference_attention(
            shared.q,
            shared.k,
            shared.v,
            counts=shared.counts,
            weights=self.weights,
            attention=attention,
            append=self.append,
            strength=self.strength,
            kept=shared.kept,
            alone=shared.alone,
        )

    def observe(self, layer: Layer, shared: Shared, attention: Attention, alone: Attention, tokens: Tokens) -> None:
        looks = self.looks
        if looks is None or layer not in looks.looks.layers:
            return
        if shared.q.shape[1] != tokens.picture:
            raise ValueError(
                f"{NODE}: expected queries of a whole picture with {tokens.picture} positions, got "
                f"{shared.q.shape[1]}; remove the node that merges attention (such as ToMe) from model."
            )
        assert isinstance(attention, Weighs) and isinstance(alone, Weighs)
        own, total, token = shared.own, shared.k.shape[1], looks.looks.point.token(tokens.size)
        q, k = shared.q[:, token : token + 1], shared.k
        numbers = looks.looks.numbers(1, total, k.device).expand(len(k), -1, -1)
        of_own = alone.weighing(total, token)
        row = self.share(
            shared._replace(q=q, k=k, v=numbers, alone=lambda: of_own(q, k[:, :own], numbers[:, :own])),
            attention.weighing(total, token),
        )
        # The rows of a call are the combined prompts of the one picture.
        looks.record(layer, row.mean(0)[0], own if self.keeps_own else 0, shared.counts, tokens)

    def output(self, layer: Layer, output: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        if self.layout is None or self.mask is None:
            return output
        mask = self.mask(tokens.size)
        if self.strength < 1:
            mask = 1 - self.strength * (1 - mask)
        first = self.targets
        changed = blended(output[:first], self.layout(layer, output).to(output.dtype), mask)
        return changed if len(output) == first else torch.cat([changed, output[first:]])


class LayoutInputs(Protocol):
    """The layout's own inputs at a layer, one row per target row."""

    def of_self(self, layer: Layer, n: torch.Tensor) -> torch.Tensor:
        """[targets, tokens, channels] hidden states; n: those of the whole call."""
        ...

    def of_cross(self, layer: Layer, n: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states and text, [targets, tokens, channels] each; n, context: those of the whole call."""
        ...

    def finished(
        self, layer: Layer, every: tuple[torch.Tensor, ...], attention: JointAttention
    ) -> tuple[torch.Tensor, ...]:
        """Finished q, k and v of the picture's tokens, [targets, tokens, width]; every: q, k, v of the whole call."""
        ...


@dataclass(frozen=True, eq=False)
class LayoutOfSameCall:
    """A layout with rows after the target's in one call. order: for every target row, its layout row among them."""

    targets: int
    order: tuple[int, ...]

    def of_self(self, layer: Layer, n: torch.Tensor) -> torch.Tensor:
        return take(n[self.targets :], self.order)

    def of_cross(self, layer: Layer, n: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return take(n[self.targets :], self.order), take(context[self.targets :], self.order)

    def finished(
        self, layer: Layer, every: tuple[torch.Tensor, ...], attention: JointAttention
    ) -> tuple[torch.Tensor, ...]:
        return tuple(take(attention.tokens.of_picture(t[self.targets :]), self.order) for t in every)


@dataclass(frozen=True, eq=False)
class RecordedLayout:
    """A layout that had a call of its own. hidden: self-attention's inputs; crossed: cross-attention's and text.

    For families that lend keys, `hidden` are finished q, k and v, joined along their channels.
    """

    hidden: dict[Layer, torch.Tensor]
    crossed: dict[Layer, tuple[torch.Tensor, torch.Tensor]]

    def of_self(self, layer: Layer, n: torch.Tensor) -> torch.Tensor:
        return self.hidden[layer]

    def of_cross(self, layer: Layer, n: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.crossed[layer]

    def finished(
        self, layer: Layer, every: tuple[torch.Tensor, ...], attention: JointAttention
    ) -> tuple[torch.Tensor, ...]:
        q, k, v = self.hidden[layer].to(every[0].dtype).split([t.shape[2] for t in every], 2)
        return attention.placed(q, None), attention.placed(k, None), v


@dataclass(frozen=True, eq=False)
class LayoutSwap(SelfAttentionChange):
    """Queries, keys and values of the target's rows become the layout's.

    Layout-and-Retouch (arXiv 2407.09779), Algorithm 1, line 9. values: True to swap the values too. strength: 1 is the
    paper's.
    """

    targets: int
    values: bool
    layout: LayoutInputs
    strength: float = 1.0

    def inputs(
        self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens
    ) -> Inputs:
        check_queries(n, context, tokens, NODE)
        layout = self.layout.of_self(layer, n)
        value = self._followed(value, layout) if self.values else value
        return self._followed(n, layout), self._followed(context, layout), value

    def cross_inputs(self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor) -> Inputs:
        """The inputs of cross-attention. Raises ValueError where the two prompts differ in length."""
        layout, text = self.layout.of_cross(layer, n, context)
        if text.shape[1] != context.shape[1]:
            raise ValueError(
                f"{NODE}: expected the layout's prompt and the target's to have one length, got {text.shape[1]} and "
                f"{context.shape[1]} tokens; make the longer prompt shorter, or set early_swap to {FORK}."
            )
        value = self._followed(value, text) if self.values else value
        return self._followed(n, layout), self._followed(context, text), value

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        if not isinstance(attention, JointAttention):
            return attention(q, k, v)
        layout = self.layout.finished(layer, (q, k, v), attention)
        q, k = (self._with_picture(own, of_layout, tokens) for own, of_layout in zip((q, k), layout, strict=False))
        return attention(q, k, self._with_picture(v, layout[2], tokens) if self.values else v)

    def _with_picture(self, own: torch.Tensor, layout: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """A sequence whose picture follows the layout's; the prompt's tokens stay."""
        picture = self._followed(tokens.of_picture(own), layout)
        return torch.cat([picture, own[:, tokens.picture :]], 1) if tokens.others else picture

    def _followed(self, own: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        first = self.targets
        changed = followed(own[:first], layout.to(own.dtype), self.strength)
        return changed if len(own) == first else torch.cat([changed, own[first:]])
