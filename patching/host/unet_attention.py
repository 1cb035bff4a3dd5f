"""The attention of a U-Net's layer, as an `Attention`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import comfy.ldm.modules.attention as host_attention
import torch

from ...kernels.correspondences import looked_at
from .family import Attention, Options


@dataclass(frozen=True, eq=False)
class UNetAttention:
    """The attention that a layer would run itself: an earlier patch of its slot, or the host's.

    The host's attention honors `optimized_attention_override`. Earlier patches accept no mask; callers with one check
    `Family.replaces_self_attention` first.
    """

    extra_options: Options
    previous: Callable | None = None

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, long: bool = False
    ) -> torch.Tensor:
        if self.previous is not None and mask is None:
            return self.previous(q, k, v, self.extra_options)
        chosen = host_attention.optimized_attention
        if long and q.device.type == "cpu" and "optimized_attention_override" not in self.extra_options:
            chosen = host_attention.attention_pytorch
        return chosen(
            q,
            k,
            v,
            self.extra_options["n_heads"],
            mask=mask,
            attn_precision=self.extra_options["attn_precision"],
            transformer_options=self.extra_options,
        )

    def weighing(self, total: int, query: int) -> Attention:
        """See `Weighs`. The weights are those of the layer's own attention, before another patch changes it."""
        heads = self.extra_options["n_heads"]

        def weigh(q, k, numbers, mask=None, long=False):
            return looked_at(q, k, numbers, heads, total=total, mask=None if mask is None else mask.unsqueeze(1))

        return weigh
