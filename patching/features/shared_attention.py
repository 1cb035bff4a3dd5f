"""Self-attention shared with references: their keys and values join, or replace, those of the target's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ..host.blocks import Layer
from ..host.family import Attention, Inputs, SelfAttentionChange
from ..host.joint_attention import JointAttention
from ..host.tokens import Tokens


@dataclass(frozen=True)
class Borrowed:
    """One reference's tokens at the layers of one model call.

    features: [chunks, tokens, channels] masked hidden states by layer, from a bank or a call of the reference's own.
    Each chunk is for an equal part of the target's rows, in order. keys: instead of features, finished keys and values
    as `Family.tap_lent` gives them, [chunks, tokens, both widths]. rows: instead of both, the reference's row of the
    same call for every target row. rotation: moves finished keys, None to leave them. tokens(size): indices of the
    tokens of these rows to attend to at a layer of (height, width), None for all. weight: of the reference.
    """

    weight: float
    features: dict[Layer, torch.Tensor] | None = None
    rows: tuple[int, ...] = ()
    tokens: Callable[[tuple[int, int]], torch.Tensor | None] | None = None
    keys: dict[Layer, torch.Tensor] | None = None
    rotation: torch.Tensor | None = None


class Shared(NamedTuple):
    """Projected tensors of one layer, for the target's rows.

    q: [targets, n, width]. k, v: [targets, own + sum(counts), width], the target's own tokens first (own is n, or 0
    where `keeps_own` is False), then each reference's. counts: tokens of each reference. reference_q: [targets,
    sum(counts), width], the references' queries; None where `reads_queries` is False. kept: the number of own tokens,
    the last ones, that stay where the picture's are replaced: the prompt's. alone(): the attention over the target's
    own tokens; None to compute it from k and v.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    counts: tuple[int, ...]
    reference_q: torch.Tensor | None = None
    kept: int = 0
    alone: Callable[[], torch.Tensor] | None = None

    @property
    def own(self) -> int:
        """The number of the target's own tokens among the keys."""
        return self.k.shape[1] - sum(self.counts)


@dataclass(frozen=True, eq=False)
class SharedAttention(SelfAttentionChange):
    """Self-attention of the call's first `targets` rows over their own and the references' tokens.

    A method is a subclass with a `share`; it is the same whether references have rows in the call or come as features.
    replaced: layers whose attention another node computes. Where that node puts the values in place of attention, as
    perturbed-attention guidance does, the target's own values stay.
    """

    targets: int
    references: tuple[Borrowed, ...]
    replaced: frozenset[Layer] = field(default=frozenset(), kw_only=True)

    def share(self, shared: Shared, attention: Attention) -> torch.Tensor:
        """The attention of the target's rows, [targets, n, width]."""
        raise NotImplementedError

    def observe(self, layer: Layer, shared: Shared, attention: Attention, alone: Attention, tokens: Tokens) -> None:
        """Called before `share`, for methods that record their weights. alone: the attention over own tokens alone."""

    @property
    def keeps_own(self) -> bool:
        """True where the keys and values contain the target's own tokens."""
        return True

    @property
    def reads_queries(self) -> bool:
        """True where `share` needs the references' queries, at the price of projecting them."""
        return False

    @property
    def attends(self) -> bool:
        return bool(self.references)

    @property
    def spread(self) -> int:
        """The number of target rows that look at the same features, whose keys and values are made once."""
        found = [next(iter(b.features.values())) for b in self.references if b.features]
        return self.targets // len(found[0]) if found and not self.of_same_call else 1

    @property
    def weights(self) -> tuple[float, ...]:
        """The references' weights, in their order."""
        return tuple(b.weight for b in self.references)

    @property
    def weighted(self) -> bool:
        """True where the weights change the attention, so that `share` needs a mask of keys."""
        return any(weight != 1 for weight in self.weights)

    @property
    def of_same_call(self) -> bool:
        """True where the references have rows in the call itself."""
        return any(b.rows for b in self.references)

    def inputs(
        self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens
    ) -> Inputs:
        borrowed = [b.features[layer] for b in self.references if b.features is not None]
        if not borrowed or self.of_same_call:
            return n, context, value
        features = _shared_out(torch.cat(borrowed, 1).to(n.dtype), len(n) // len(borrowed[0]))
        queries = torch.cat([n, features], 1) if self.reads_queries else n
        if not self.keeps_own and layer not in self.replaced:
            return queries, features, features
        return queries, torch.cat([context, features], 1), torch.cat([value, features], 1)

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        first = self.targets if self.of_same_call else len(q)
        if isinstance(attention, JointAttention):
            swapped = self._of_joint(layer, q[:first], (q, k, v), attention, tokens)
            if first == len(q):
                return swapped
            rest = attention.of_rows(slice(first, None))(q[first:], k[first:], v[first:])
            return torch.cat([swapped, rest])
        shared = self._of_rows(q, k, v, tokens) if self.of_same_call else self._of_features(layer, q, k, v)
        lent = attention
        if layer in self.replaced:
            lent = _or_own(attention, v[:first, : shared.q.shape[1]])
            if not self.keeps_own:
                shared = shared._replace(k=shared.k[:, shared.own :], v=shared.v[:, shared.own :])
        self.observe(layer, shared, attention, attention, tokens)
        swapped = self.share(shared, lent)
        return swapped if first == len(q) else torch.cat([swapped, attention(q[first:], k[first:], v[first:])])

    def _of_joint(
        self,
        layer: Layer,
        q: torch.Tensor,
        every: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        attention: JointAttention,
        tokens: Tokens,
    ) -> torch.Tensor:
        """The attention of the target's rows where one sequence holds picture and prompt. every: q, k, v of all rows.

        The picture's queries see the references; those of the prompt see their own sequence alone.
        """
        attention = attention.of_rows(slice(0, len(q)))
        k, v = (t[: len(q)] for t in every[1:])
        lent = [
            _of_call(borrowed, every, attention, tokens)
            if borrowed.keys is None
            else _finished(borrowed, borrowed.keys[layer], len(q), attention, k)
            for borrowed in self.references
        ]
        counts, picture = tuple(keys.shape[1] for _, keys, _ in lent), tokens.picture
        first = 0 if self.keeps_own else picture
        queries = [own for own, _, _ in lent if own is not None]
        if self.reads_queries and len(queries) < len(lent):
            raise ValueError(
                "expected references in the same call for a method that reads queries; set mode to batched."
            )

        def alone() -> torch.Tensor:
            return attention.of_picture(q[:, :picture], k, v)

        shared = Shared(
            q[:, :picture],
            torch.cat([k[:, first:], *(keys for _, keys, _ in lent)], 1),
            torch.cat([v[:, first:], *(values for _, _, values in lent)], 1),
            counts,
            torch.cat(queries, 1) if self.reads_queries else None,
            tokens.others,
            alone,
        )
        lending = attention.with_borrowed(sum(counts))
        self.observe(layer, shared, lending, attention, tokens)
        made = self.share(shared, lending.of_picture)
        return attention.completed(made, q, k, v)

    def _of_features(self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Shared:
        counts = tuple(b.features[layer].shape[1] for b in self.references if b.features is not None)
        k, v = (_put_together(projected, sum(counts), self.spread) for projected in (k, v))
        if not self.reads_queries:
            return Shared(q, k, v, counts)
        q = _put_together(q, sum(counts), self.spread)
        own = q.shape[1] - sum(counts)
        return Shared(q[:, :own], k, v, counts, reference_q=q[:, own:])

    def _of_rows(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tokens: Tokens) -> Shared:
        first = self.targets
        queries, keys, values = [], [k[:first]], [v[:first]]
        counts = []
        for borrowed in self.references:
            chosen = borrowed.tokens(tokens.size) if borrowed.tokens else None
            wanted = [(keys, k), (values, v)] + ([(queries, q)] if self.reads_queries else [])
            for parts, projected in wanted:
                rows = torch.stack([projected[row] for row in borrowed.rows])
                parts.append(rows if chosen is None else rows[:, chosen])
            counts.append(keys[-1].shape[1])
        if not self.keeps_own:
            keys, values = keys[1:], values[1:]
        reference_q = torch.cat(queries, 1) if queries else None
        return Shared(q[:first], torch.cat(keys, 1), torch.cat(values, 1), tuple(counts), reference_q)


_Lent = tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]
"""Queries where they are known, keys and values of one reference, [targets, tokens, width]."""


def _of_call(
    borrowed: Borrowed,
    every: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    attention: JointAttention,
    tokens: Tokens,
) -> _Lent:
    """The picture's tokens of a reference's rows in the same call."""
    chosen = borrowed.tokens(tokens.size) if borrowed.tokens else None
    rows = [torch.stack([t[row, : tokens.picture] for row in borrowed.rows]) for t in every]
    q, k, v = rows if chosen is None else [t[:, chosen] for t in rows]
    return attention.moved(q, borrowed.rotation), attention.moved(k, borrowed.rotation), v


def _finished(
    borrowed: Borrowed, joined: torch.Tensor, targets: int, attention: JointAttention, like: torch.Tensor
) -> _Lent:
    """Finished keys and values of a reference, which each of its chunks lends to an equal part of the rows."""
    keys, values = joined.to(like.dtype).split(like.shape[2], 2)
    spread = targets // len(joined)
    keys = attention.placed(keys, borrowed.rotation)
    return None, keys.repeat_interleave(spread, 0), values.repeat_interleave(spread, 0)


def _or_own(attention: Attention, own: torch.Tensor) -> Attention:
    """The attention, or the target's own values where it returns the values that it is given."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more) -> torch.Tensor:
        made = attention(q, k, v, **more)
        return own if made is v or made.shape[1] != q.shape[1] else made

    return attend


def _shared_out(features: torch.Tensor, spread: int) -> torch.Tensor:
    """Features [chunks, tokens, channels] as [chunks * spread, part, channels]: each row has a part of the tokens.

    A layer projects every token by itself, so no row projects what another one does. The last part is padded.
    """
    chunks, tokens, channels = features.shape
    padded = torch.nn.functional.pad(features, (0, 0, 0, -tokens % spread))
    return padded.reshape(chunks * spread, -1, channels)


def _put_together(projected: torch.Tensor, tokens: int, spread: int) -> torch.Tensor:
    """Rows of [own + part] tokens after their projection, as rows of [own + tokens]; the inverse of `_shared_out`."""
    if spread == 1:
        return projected
    rows, own = len(projected), projected.shape[1] + -tokens // spread
    parts = projected[:, own:].reshape(rows // spread, -1, projected.shape[2])[:, :tokens]
    whole = parts[:, None].expand(-1, spread, -1, -1).reshape(rows, tokens, -1)
    return torch.cat([projected[:, :own], whole], 1)
