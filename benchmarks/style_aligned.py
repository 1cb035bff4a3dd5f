"""StyleAligned (arXiv 2312.02133) on the pack's shared attention, for comparisons: no node has it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from ..patching.features.lending import BANKED, Lending
from ..patching.features.references import References
from ..patching.features.shared_attention import Shared, SharedAttention
from ..patching.host.attach import attach
from ..patching.host.blocks import parse
from ..patching.host.families import discover, family_of
from ..patching.host.family import Attention
from ..patching.host.run import Call, Forward
from ..patching.host.window import ALWAYS, Window

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.samplers import CFGGuider

NODE = "bench"
_EPSILON = 1e-5


def adain(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """AdaIN of StyleAligned (arXiv 2312.02133, section 3.2): x with the mean and deviation of each channel of y.

    x, y: [rows, tokens, width], each with its own number of tokens. Returns x's shape.
    """
    variance, mean = torch.var_mean(x.float(), 1, correction=0, keepdim=True)
    wanted, middle = torch.var_mean(y.float(), 1, correction=0, keepdim=True)
    return (((wanted + _EPSILON) / (variance + _EPSILON)).sqrt() * (x.float() - mean) + middle).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Aligned(SharedAttention):
    """Attention of normalized queries over normalized own keys and the reference's keys.

    strength: linear mix with the attention over the own tokens; 1 is the paper's.
    """

    strength: float = 1.0

    @property
    def reads_queries(self) -> bool:
        return True

    def share(self, shared: Shared, attention: Attention) -> torch.Tensor:
        q, k, v, own = shared.q, shared.k, shared.v, shared.own
        assert shared.reference_q is not None
        keys = torch.cat([adain(k[:, :own], k[:, own:]), k[:, own:]], 1)
        made = attention(adain(q, shared.reference_q), keys, v)
        return made if self.strength == 1 else torch.lerp(attention(q, k[:, :own], v[:, :own]), made, self.strength)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Patch of a MODEL, at every step."""

    lending: Lending
    strength: float

    @property
    def node(self) -> str:
        return NODE

    @property
    def window(self) -> Window:
        return ALWAYS

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
        """Prepares the references; returns the noise as it came."""
        self.lending.prepare(guider, sigmas[:-1].tolist())
        return noise

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        return self.lending.lender(call).lend(call, forward, partial(Aligned, strength=self.strength))


def style_aligned(model: ModelPatcher, references: References, strength: float) -> ModelPatcher:
    """Clone of MODEL that draws in the style of a reference, in all blocks as in the paper."""
    blocks = parse("all", discover(model, NODE), NODE)
    return attach(model, Alignment(Lending(NODE, family_of(model, NODE), blocks, references.items, BANKED), strength))
