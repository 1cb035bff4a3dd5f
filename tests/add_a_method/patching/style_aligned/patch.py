"""StyleAligned (arXiv 2312.02133) from a reference picture, as a patch of MODEL: shared self-attention with AdaIN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from ...kernels.style_aligned import style_aligned_attention
from ..features.lending import BANKED, Lending
from ..features.references import References
from ..features.shared_attention import Shared, SharedAttention
from ..host.attach import attach
from ..host.blocks import parse
from ..host.checks import check_text
from ..host.families import discover, family_of
from ..host.family import Attention
from ..host.run import Call, Forward
from ..host.window import Window

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.samplers import CFGGuider

NODE = "StyleAligned"


@dataclass(frozen=True)
class StyleAlignedSettings:
    """The widgets of the node.

    blocks: where the pictures share attention, in the language of `blocks.parse`; the paper shares it everywhere.
    mode: one of `lending`'s. strength: of the whole change, 1 is the paper's.
    """

    blocks: str = "all"
    mode: str = BANKED
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0

    @property
    def window(self) -> Window:
        return Window(self.start_percent, self.end_percent)


@dataclass(frozen=True, eq=False)
class AlignedAttention(SharedAttention):
    """The change of self-attention in one model call."""

    strength: float = 1.0

    @property
    def reads_queries(self) -> bool:
        return True

    def share(self, shared: Shared, attention: Attention) -> torch.Tensor:
        assert shared.reference_q is not None
        return style_aligned_attention(
            shared.q,
            shared.k,
            shared.v,
            shared.reference_q,
            attention,
            counts=shared.counts,
            weights=self.weights,
            strength=self.strength,
        )


@dataclass(frozen=True, eq=False)
class StyleAlignment:
    """The patch. lending: the references, and the blocks where they act."""

    settings: StyleAlignedSettings
    lending: Lending

    @property
    def node(self) -> str:
        return self.lending.node

    @property
    def window(self) -> Window:
        return self.settings.window

    @property
    def batches(self) -> int:
        return self.lending.batches

    def prepare(
        self,
        guider: CFGGuider,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Inverts the references where no earlier run did; returns the noise as it came."""
        self.lending.prepare(guider, sigmas[:-1].tolist())
        return noise

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        change = partial(AlignedAttention, strength=self.settings.strength)
        return self.lending.lender(call).lend(call, forward, change)


def style_aligned(model: ModelPatcher, references: References, settings: StyleAlignedSettings) -> ModelPatcher:
    """A clone of MODEL that draws in the references' style; a plain clone where the settings are neutral.

    Raises ValueError for a network of no known family, blocks that it does not have, and prompts of another family.
    """
    family, available = family_of(model, NODE), discover(model, NODE)
    blocks = parse(settings.blocks, available, NODE)
    for reference in references.items:
        check_text(model, reference.conditioning, "reference", NODE)
    if settings.strength == 0 or settings.window.empty or not blocks:
        return model.clone()
    lending = Lending(NODE, family, blocks, references.items, settings.mode)
    return attach(model, StyleAlignment(settings, lending))
