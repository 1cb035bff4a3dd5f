"""The token sequence of one attention layer, and the picture's part of it. Independent of ComfyUI."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Tokens(NamedTuple):
    """One layer's sequence: the picture's tokens in raster order, and others before and after them.

    size: (height, width) of the picture's tokens. first: number of tokens before them. after: number of tokens after
    them. text: first and last + 1 of the prompt's tokens, which a U-Net has none of. The rest are references that the
    host itself adds, and padding.
    """

    size: tuple[int, int]
    first: int = 0
    after: int = 0
    text: tuple[int, int] = (0, 0)

    @property
    def picture(self) -> int:
        """The number of the picture's tokens."""
        return self.size[0] * self.size[1]

    @property
    def others(self) -> int:
        """The number of all other tokens."""
        return self.first + self.after

    @property
    def total(self) -> int:
        """The length of the sequence."""
        return self.picture + self.others

    @property
    def picture_first(self) -> Tokens:
        """The same tokens in the order of `reordered`."""
        if not self.first:
            return self
        start, stop = (n + self.picture if n <= self.first else n for n in self.text)
        return Tokens(self.size, 0, self.others, (start, stop))

    def of_picture(self, values: torch.Tensor) -> torch.Tensor:
        """The picture's part of [rows, total, channels]: [rows, height * width, channels]."""
        return values[:, self.first : self.first + self.picture] if self.others else values

    def of_text(self, values: torch.Tensor) -> torch.Tensor:
        """The prompt's part of [rows, total, channels]."""
        return values[:, self.text[0] : self.text[1]]

    def reordered(self, values: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """The values with the picture's tokens before all others, along one dimension."""
        return _swapped(values, self.first, self.picture, dim)

    def restored(self, values: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """The inverse of `reordered`."""
        return _swapped(values, self.picture, self.first, dim)


def _swapped(values: torch.Tensor, first: int, second: int, dim: int) -> torch.Tensor:
    """The values with the first two runs of tokens in the other order."""
    if not first or not second:
        return values
    parts = values.split((first, second, values.shape[dim] - first - second), dim)
    return torch.cat([parts[1], parts[0], parts[2]], dim)


def check_queries(n: torch.Tensor, context: torch.Tensor, tokens: Tokens, node: str, merged: bool = False) -> None:
    """Raises ValueError for queries that another node has divided, or merged unless `merged` allows it.

    n, context: inputs of the projections to queries and keys, [rows, positions, channels].
    """
    if len(n) != len(context) or (not merged and n.shape[1] != tokens.total):
        raise ValueError(
            f"{node}: expected queries of {len(context)} whole pictures with {tokens.total} positions, got {len(n)} "
            f"rows with {n.shape[1]}; remove the node that divides or merges attention (such as HyperTile or ToMe) "
            "from model."
        )
