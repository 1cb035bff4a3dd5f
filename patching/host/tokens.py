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
