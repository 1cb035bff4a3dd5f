"""Coupled self-attention (JeDi, arXiv 2407.06187, section 3.2) in the layers of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import comfy.model_management
import torch

from ...kernels.jedi import coupled_attention, coupled_pictures
from ..features.looking import Looks
from ..host.blocks import Layer
from ..host.family import Attention, Inputs, SelfAttentionChange, Weighs
from ..host.joint_attention import JointAttention
from ..host.tokens import Tokens

Visible = Callable[[tuple[int, int], torch.device], Sequence[torch.Tensor | None] | None]
"""visible(size, device): per member, the indices of the tokens that other members attend to, None for all.

size: (height, width) of the layer's hidden states. device: that of the call, which is not the run's for a side of
guidance that the host gives to another GPU. A result of None stands for all tokens of all members.
"""

_FEWEST_QUERIES = 64


@dataclass(eq=False)
class Chunks:
    """The number of queries per attention call, None for all; halved when memory runs out. One object per run."""

    queries: int | None = None

    def attend(self, attention: Attention, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attention of q over k and v in chunks of queries; chunks are independent.

        Returns the shape of q. Raises the host's out-of-memory error if even a small chunk does not fit.
        """
        while True:
            size = q.shape[1] if self.queries is None else self.queries
            try:
                parts = [
                    _of_part(attention, start, size)(q[:, start : start + size], k, v, long=True)
                    for start in range(0, q.shape[1], size)
                ]
                return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            except comfy.model_management.OOM_EXCEPTION:
                if size <= _FEWEST_QUERIES:
                    raise
                self.queries = size // 2
            comfy.model_management.soft_empty_cache()


def _of_part(attention: Attention, start: int, count: int) -> Attention:
    """The attention of some of its queries, since a mask may have a row for each."""
    return attention.of_part(start, count) if isinstance(attention, JointAttention) else attention


@dataclass(frozen=True, eq=False)
class Coupling(SelfAttentionChange):
    """Self-attention of a call whose rows are the members of sets, set after set.

    members: pictures per set.
    strength: 0 keeps every picture to itself, 1 is the paper's coupling.
    visible: None shows every token of every member.
    vanilla: hidden states [rows, n, channels] by layer, of the first pictures of every set run uncoupled.
    blend: share of the queries that comes from `vanilla` (ConsiStory, arXiv 2402.03286, section 4.2), so that the
        pictures keep their own layouts.
    replaced: layers whose attention another node computes. It gets the queries of one picture at a time.
    rotation: of the keys of other members in a transformer, by the size of a layer's picture and the call's device;
        None leaves them.
    looks: records where a point of the first set looks.

    In a transformer whose sequence holds text and picture, members look at each other's pictures, not at their prompts.
    There `vanilla` holds queries, keys and values.
    """

    node: str
    members: int
    strength: float = 1.0
    visible: Visible | None = None
    vanilla: dict[Layer, torch.Tensor] | None = None
    blend: float = 0.0
    chunks: Chunks = field(default_factory=Chunks)
    replaced: frozenset[Layer] = frozenset()
    rotation: Callable[[tuple[int, int], torch.device], torch.Tensor | None] | None = None
    looks: Looks | None = None

    @property
    def attends(self) -> bool:
        return True

    def inputs(
        self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens
    ) -> Inputs:
        if self.vanilla is None or self.blend == 0:
            return n, context, value
        sets = n.unflatten(0, (-1, self.members))
        own = self.vanilla[layer].to(n.dtype).unflatten(0, (len(sets), -1))
        count = own.shape[1]
        # The projection is linear, so mixing its inputs mixes the queries.
        mixed = torch.lerp(sets[:, :count], own, self.blend)
        return torch.cat([mixed, sets[:, count:]], 1).flatten(0, 1), context, value

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        if len(q) % self.members or not q.shape[1] == k.shape[1] == v.shape[1] == tokens.total:
            raise ValueError(
                f"{self.node}: expected {self.members} pictures of {tokens.total} positions in attention, got "
                f"{len(q)} of {k.shape[1]}; remove the node that divides, merges or extends attention (such as "
                "HyperTile or ToMe) from model."
            )

        if isinstance(attention, JointAttention):
            return self._joint(layer, q, k, v, attention=attention, tokens=tokens)

        made = self._coupled(q, k, v, attention, tokens, replaced=layer in self.replaced)
        if self.looks is not None:
            self._look(self.looks, layer, q, k, attention, tokens)
        return made

    def _coupled(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        attention: Attention,
        tokens: Tokens,
        *,
        replaced: bool = False,
    ) -> torch.Tensor:
        """The attention of a U-Net's layer, [rows, n, width]."""

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return self.chunks.attend(attention, q, k, v)

        def attend_replaced(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            made = attention(q, k, v)
            # A replacement may return a row for each value, as perturbed attention does: the picture's come first.
            return made[:, : q.shape[1]] if made.shape[1] == k.shape[1] else made

        return coupled_attention(
            q,
            k,
            v,
            self.members,
            attend_replaced if replaced else attend,
            strength=self.strength,
            visible=None if self.visible is None else self.visible(tokens.size, q.device),
            apart=replaced,
        )

    def _look(
        self, looks: Looks, layer: Layer, q: torch.Tensor, k: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> None:
        """Records where the point looks, from the coupling itself with its one query and with numbers for values."""
        if layer not in looks.layers:
            return
        assert isinstance(attention, Weighs)
        members, token = self.members, looks.point.token(tokens.size)
        numbers = looks.numbers(members, k.shape[1], k.device)
        weighing = attention.weighing(numbers.numel(), token)
        couple = self._of_pictures if isinstance(attention, JointAttention) else self._coupled
        rows = couple(q[:members, token : token + 1], k[:members], numbers, weighing, tokens)
        weights = rows[looks.point.picture, 0].view(members, -1)[:, : tokens.picture]
        looks.record(layer, weights.unflatten(1, tokens.size).unbind())

    def _joint(
        self,
        layer: Layer,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        attention: JointAttention,
        tokens: Tokens,
    ) -> torch.Tensor:
        """The attention of a transformer's layer, [rows, n, width]."""
        if self.members == 1 or self.strength == 0:
            return attention(q, k, v)
        picture = tokens.picture
        q = self._blended(layer, q, attention, picture)
        coupled = self._of_pictures(q[:, :picture], k, v, attention, tokens)
        if self.looks is not None:
            first = attention.rows.start if attention.rows else 0
            self._look(self.looks, layer, q, k, attention.of_rows(slice(first, first + self.members)), tokens)
        return attention.completed(coupled, q, k, v)

    def _of_pictures(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        """The attention of queries of the pictures in a transformer's layer, [rows, queries, width]."""
        assert isinstance(attention, JointAttention)
        picture, first, rows = tokens.picture, attention.rows.start if attention.rows else 0, len(q)
        rotation = None if self.rotation is None else self.rotation(tokens.size, k.device)
        shared = attention.moved(k[:, :picture], rotation)

        def attend(i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            of_member = attention.of_rows(slice(first + i, first + rows, self.members))
            return self.chunks.attend(of_member.of_picture.with_borrowed(k.shape[1] - tokens.total), q, k, v)

        visible = None if self.visible is None else self.visible(tokens.size, q.device)
        coupled = coupled_pictures(q, k, v, self.members, attend, picture=picture, shared=shared, visible=visible)
        return coupled if self.strength == 1 else torch.lerp(attention.of_picture(q, k, v), coupled, self.strength)

    def _blended(self, layer: Layer, q: torch.Tensor, attention: JointAttention, picture: int) -> torch.Tensor:
        """The queries with a share of those of uncoupled pictures."""
        if self.vanilla is None or self.blend == 0:
            return q
        lent = self.vanilla[layer].to(q.dtype)
        own = attention.placed(lent[..., : q.shape[-1]], None).unflatten(0, (len(q) // self.members, -1))
        count, sets = own.shape[1], q.unflatten(0, (-1, self.members))
        mixed = torch.lerp(sets[:, :count, :picture], own, self.blend)
        mixed = torch.cat([mixed, sets[:, :count, picture:]], 2)
        return torch.cat([mixed, sets[:, count:]], 1).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class PerPrompt(SelfAttentionChange):
    """Self-attention of a call with several prompts. changes: one per prompt, None where pictures stay uncoupled."""

    changes: tuple[Coupling | None, ...]

    @property
    def attends(self) -> bool:
        return True

    def inputs(
        self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, tokens: Tokens
    ) -> Inputs:
        if all(c is None or c.vanilla is None for c in self.changes):
            return n, context, value
        parts = [x.chunk(len(self.changes)) for x in (n, context, value)]
        made = [
            part if change is None else change.inputs(layer, *part, tokens=tokens)
            for change, *part in zip(self.changes, *parts, strict=True)
        ]
        queries, keys, values = (torch.cat(x) for x in zip(*made, strict=True))
        return queries, keys, values

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        parts = [x.chunk(len(self.changes)) for x in (q, k, v)]
        rows = len(parts[0][0])
        made = []
        for i, (change, *part) in enumerate(zip(self.changes, *parts, strict=True)):
            of_prompt = attention
            if isinstance(attention, JointAttention):
                of_prompt = attention.of_rows(slice(i * rows, (i + 1) * rows))
            attended = of_prompt(*part) if change is None else change.attend(layer, *part, of_prompt, tokens)
            made.append(attended)
        return torch.cat(made)
