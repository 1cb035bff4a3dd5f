"""The attention of a transformer's layer, whose one sequence holds the picture, the prompt and more.

Independent of ComfyUI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ...kernels.attention import rotated
from ...kernels.correspondences import looked_at
from .tokens import Tokens

Run = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""run(q, k, v, mask) -> [rows, n, width]: the attention that the network would run itself."""


@dataclass(frozen=True, eq=False)
class JointAttention:
    """An `Attention` over [rows, tokens, width] with the picture's tokens first, and all others after them.

    tokens: of the sequence, in this order. heads: of the queries. halves: as for `kernels.attention.rotated`.
    mask: the host's own, None or [rows or 1, heads or 1, queries or 1, tokens]. Borrowed keys follow after the own
    ones, and no mask hides them. rows, queries: those that the given queries are, None for all. borrowed: number of
    borrowed keys, None for all keys beyond the own. Where own keys are missing, they are the first. origin: see
    `placed`.
    """

    run: Run
    tokens: Tokens
    heads: int
    halves: bool = False
    mask: torch.Tensor | None = None
    rows: slice | None = None
    queries: slice | None = None
    borrowed: int | None = None
    origin: torch.Tensor | None = None

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, long: bool = False
    ) -> torch.Tensor:
        """mask: [rows or 1, n, keys], to be added to the logits. long: without meaning here."""
        if self.mask is None:
            return self.run(q, k, v, mask)
        own, total = self.mask, self.tokens.total
        if self.rows is not None and len(own) > 1:
            own = own[self.rows]
        if own.shape[2] > 1:
            own = own if self.queries is None else own[:, :, self.queries]
            if own.shape[2] != q.shape[1]:
                raise ValueError(
                    f"expected the {own.shape[2]} queries that the model's attention mask is for, got {q.shape[1]}; "
                    "remove the node that divides or merges attention from model."
                )
        extra = k.shape[1] - total if self.borrowed is None else self.borrowed
        own = F.pad(own[..., total + extra - k.shape[1] :], (0, extra))
        return self.run(q, k, v, own if mask is None else own + mask.unsqueeze(1))

    @property
    def of_picture(self) -> JointAttention:
        """The attention of the picture's queries, or of those that were chosen already."""
        return self if self.queries is not None else replace(self, queries=slice(0, self.tokens.picture))

    def of_part(self, start: int, count: int) -> JointAttention:
        """The attention of `count` of these queries, or of what is left of them, from `start` on."""
        first, stop = (self.queries.start, self.queries.stop) if self.queries else (0, None)
        last = first + start + count
        return replace(self, queries=slice(first + start, last if stop is None else min(last, stop)))

    @property
    def of_others(self) -> JointAttention:
        """The attention of all other queries."""
        return replace(self, queries=slice(self.tokens.picture, None))

    def of_rows(self, rows: slice) -> JointAttention:
        """The attention of some rows of the call."""
        return replace(self, rows=rows)

    def with_borrowed(self, count: int) -> JointAttention:
        """The attention over keys of which the last `count` are borrowed."""
        return replace(self, borrowed=count)

    def completed(self, picture: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The picture's outputs followed by those of all other tokens, which see their own sequence alone."""
        count = self.tokens.picture
        if not self.tokens.others:
            return picture
        return torch.cat([picture, self.of_others(q[:, count:], k, v)], 1)

    def weighing(self, total: int, query: int) -> JointAttention:
        """See `family.Weighs`."""

        def weigh(q, k, numbers, mask):
            # Without a mask of the host, that of the borrowed keys has no dimension of heads.
            full = mask.unsqueeze(1) if mask is not None and mask.ndim == 3 else mask
            return looked_at(q, k, numbers, self.heads, total=total, mask=full)

        return replace(self, run=weigh, queries=slice(query, query + 1))

    def moved(self, keys: torch.Tensor, rotation: torch.Tensor | None) -> torch.Tensor:
        """Finished keys at other positions. rotation: `Family.rotation` of the shift; None leaves them."""
        return keys if rotation is None else rotated(keys, rotation, self.halves)

    def placed(self, keys: torch.Tensor, rotation: torch.Tensor | None) -> torch.Tensor:
        """Lent keys of `Family.tap_lent` at this picture's place, moved by a rotation."""
        if self.origin is not None:
            rotation = self.origin if rotation is None else rotation @ self.origin
        return self.moved(keys, rotation)
