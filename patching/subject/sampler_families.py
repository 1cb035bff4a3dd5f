"""Settings of LikenessSampler that suit transformers, where the papers' are those of U-Nets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..features.lending import SEQUENTIAL
from ..features.references import INVERTED, NOISED
from ..host.families import family_of
from ..host.family import KEYS
from ..layout_and_retouch.settings import APPEND, RetouchSettings
from .sampler_inputs import NODE

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def is_transformer(model: ModelPatcher) -> bool:
    """True for a diffusion transformer, False for a U-Net. Raises ValueError for an unsupported family."""
    return family_of(model, NODE).lends == KEYS


def map_blocks(model: ModelPatcher) -> str:
    """Blocks from which the map of the subject's words in a picture is read."""
    return "late" if is_transformer(model) else "decoder"


def source_of(model: ModelPatcher) -> str:
    """The source of the photographs' noise: an inversion costs more model calls than the picture of a distilled model,
    as most transformers in use are."""
    return NOISED if is_transformer(model) else INVERTED


def suited(settings: RetouchSettings, model: ModelPatcher) -> RetouchSettings:
    """The settings of a retouch with those that suit a transformer.

    FreeCus (arXiv 2507.15249) appends a reference in Flux.1. Keys and values take tens of MB in each block and step, so
    that none are kept.
    """
    return replace(settings, attention=APPEND, mode=SEQUENTIAL) if is_transformer(model) else settings
