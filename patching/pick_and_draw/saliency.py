"""The saliency mask of a picture from the attention to its subject's words (Pick-and-Draw, arXiv 2401.16762, eq. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..features.word_maps import MAP_LEVELS, MAP_WINDOW, word_maps
from ..host.attach import bare
from ..host.blocks import check_names, parse
from ..host.families import discover, presets
from ..host.family import COARSE

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP


def saliency_map(
    model: ModelPatcher, clip: CLIP | None, latent: dict, *, text: str, word: str, blocks: str, seed: int, node: str
) -> torch.Tensor:
    """The attention to `word` in `text` over the one picture of a LATENT: [height, width] in 0..1, on the CPU.

    blocks: as `map_blocks` of AppearancePalette. Raises ValueError for unknown blocks and a word outside the text.
    """
    check_names(blocks, node, "map_blocks", paper=True, needed=True)
    chosen = parse(blocks, discover(model, node), node, presets(model, COARSE, node), "map_blocks")
    return word_maps(
        bare(model),
        clip,
        latent,
        text=text,
        word=word,
        blocks=" ".join(block.name for block in chosen),
        group_by="together",
        window=MAP_WINDOW,
        levels=MAP_LEVELS,
        seed=seed,
        node=node,
    ).heatmaps[0]


def saliency_mask(heat: torch.Tensor, threshold: float, word: str, node: str) -> torch.Tensor:
    """1 where a map [height, width] is above the threshold, else 0. Raises ValueError where it is nowhere."""
    mask = (heat > threshold).float()
    if not bool(mask.any()):
        raise ValueError(
            f"{node}: expected a subject where the map of '{word}' is above threshold {threshold:g}, got nothing; "
            "lower threshold, choose another word, or connect mask."
        )
    return mask
