"""Diffusion transformers of the published sizes with random weights, and narrow ones of the same kinds of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.supported_models
import comfy.supported_models_base

from .transformer_files import FLUX_CONFIG, Z_IMAGE_CONFIG

_TEXT = {"context_in_dim": 768}
"""Width of the text, as of the text encoder of Stable Diffusion 1.x."""
_NARROW_FLUX = {"hidden_size": 256, "num_heads": 2, "depth": 2, "depth_single_blocks": 2}
_LENGTHY = (4, 4)
"""Steps and pictures of a network that takes long."""
_NARROW_Z_IMAGE = {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2}


@dataclass(frozen=True)
class Kind:
    """A kind of network: its configuration at the published size, that of a rehearsal, and a picture's latent side.

    most_steps: of its timed runs. largest_set: pictures of its largest set.
    """

    name: str
    full: dict[str, Any]
    narrow: dict[str, Any]
    side: int
    family: type[comfy.supported_models_base.BASE]
    most_steps: int = 1000
    largest_set: int = 1000


TRANSFORMERS = {
    "zimage": Kind(
        "Z-Image size",
        Z_IMAGE_CONFIG | {"n_layers": 30},
        Z_IMAGE_CONFIG | _NARROW_Z_IMAGE,
        128,
        comfy.supported_models.ZImage,
        *_LENGTHY,
    ),
    "flux": Kind(
        "Flux.1 size",
        FLUX_CONFIG | _TEXT | {"depth": 19, "depth_single_blocks": 38},
        FLUX_CONFIG | _TEXT | _NARROW_FLUX,
        128,
        comfy.supported_models.Flux,
        *_LENGTHY,
    ),
}
