"""Rows of cross-attention that other packs add for regional prompts, told apart by their text."""

from __future__ import annotations

import torch

from ..features.host_memory import sent
from ..host.blocks import Layer


class Regions:
    """The rows of one prompt among those of several regions, in each layer of a model call.

    Packs with regional prompts repeat the queries of a layer once per region, each with its own text, and mix the
    outputs. text: the features of the prompt to find, [1 or images, tokens, width]; None where unknown.
    """

    def __init__(self, text: torch.Tensor | None, images: int, node: str):
        self.text, self.images, self.node = text, images, node
        self._contexts: dict[Layer, torch.Tensor] = {}
        self._rows: dict[Layer, list[int] | None] = {}

    def note(
        self, layer: Layer, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keeps the text of a layer's rows and changes nothing; a reader behind all other patches."""
        if layer not in self._rows and len(context) != self.images:
            self._contexts[layer] = context.detach()
        return n, context, value

    def rows(self, layer: Layer, count: int) -> list[int] | None:
        """The prompt's rows among `count`, None for all; decided once per layer, since a layer may be recomputed.

        Raises ValueError where the prompt has not one row per image.
        """
        if layer not in self._rows:
            context = self._contexts.pop(layer, None)
            self._rows[layer] = None if count == self.images else self._found(context, count)
        return self._rows[layer]

    def _found(self, context: torch.Tensor | None, count: int) -> list[int]:
        rows: list[int] = []
        if context is not None and len(context) == count and self.text is not None and len(self.text) == 1:
            text = sent(self.text[0], context)
            length = min(len(text), context.shape[1])
            near = (context[:, :length] - text[:length]).abs().amax((1, 2)) <= 0.01 * text.abs().max()
            rows = near.nonzero()[:, 0].tolist()
        if len(rows) != self.images:
            raise ValueError(
                f"{self.node}: expected one row of cross-attention per image with the prompt in text, got {len(rows)} "
                f"among {count} rows for {self.images} images; remove the node with regional prompts or other added "
                "rows from model, or give one of its regions the prompt in text."
            )
        return rows
