"""The token sequence of one attention layer, and the picture's part of it. Independent of ComfyUI."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Tokens(NamedTuple):
    """One layer's sequence, [text, picture] or [picture, text].

    size: (height, width) of the picture's tokens. text: number of text tokens, 0 for a U-Net. text_first: True if the
    text precedes the picture.
    """

    size: tuple[int, int]
    text: int = 0
    text_first: bool = True

    @property
    def picture(self) -> int:
        """The number of the picture's tokens."""
        return self.size[0] * self.size[1]

    @property
    def total(self) -> int:
        """The length of the sequence."""
        return self.picture + self.text

    def of_picture(self, values: torch.Tensor) -> torch.Tensor:
        """The picture's part of [rows, total, channels]: [rows, height * width, channels]."""
        if not self.text:
            return values
        return values[:, self.text :] if self.text_first else values[:, : self.picture]


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
