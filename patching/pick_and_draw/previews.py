"""Previews of palettes and templates, as AppearancePalette and LayoutTemplate show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ...kernels.heatmaps import mean_heatmap, min_max, overlay, principal_colors
from ..features.host_memory import sent
from ..features.references import Reference, References
from ..features.sources import noised_source
from ..host.attach import attach, bare
from ..host.blocks import Block
from ..host.checks import image_latent
from ..host.families import family_of
from ..host.passes import Denoise, run_pass, unwrapped
from ..host.previews import captioned, pictures_of
from .subject import FeatureTap, Seen
from .template import Template

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE


def preview_palette(
    model: ModelPatcher, made: References, blocks: Sequence[Block], kind: str, vae: VAE | None, node: str
) -> torch.Tensor:
    """Each reference, its mask, and its features' first three principal components at a middle noise level.

    kind: of the features. Returns [references, height, width, 3] in 0..1.
    """
    panels = [_palette_panel(model, item, blocks, kind, vae, node) for item in made.items]
    height, width = (max(p.shape[i] for p in panels) for i in (1, 2))
    return torch.cat([F.pad(p, (0, 0, 0, width - p.shape[2], 0, height - p.shape[1])) for p in panels])


def _palette_panel(
    model: ModelPatcher, item: Reference, blocks: Sequence[Block], kind: str, vae: VAE | None, node: str
) -> torch.Tensor:
    """[1, height, width, 3]: one reference's three pictures side by side."""
    picture = pictures_of(model, item.latent, vae)
    height, width = picture.shape[1:3]
    values, size = _features(model, item, blocks, kind, node)
    mask = (
        torch.ones(1, height, width) if item.mask is None else F.interpolate(item.mask[None, None], (height, width))[0]
    )
    colors = principal_colors(values[0].float().cpu()).unflatten(0, size).movedim(-1, 0)[None]
    colors = F.interpolate(colors, (height, width), mode="nearest").movedim(1, -1)
    features = torch.where(mask[..., None] > 0.5, colors, 0.3 * picture)
    shown = [
        captioned(picture, "reference"),
        captioned(overlay(picture, mask), "mask"),
        captioned(features, "features"),
    ]
    return torch.cat(shown, 2)


def _features(
    model: ModelPatcher, item: Reference, blocks: Sequence[Block], kind: str, node: str
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Features at the middle block and noise level, [1, height * width, channels], and their (height, width)."""
    sampling: Any = model.get_model_object("model_sampling")
    sigma = float(sampling.percent_to_sigma(0.5))
    block = blocks[len(blocks) // 2]
    seen = Seen()
    model = bare(model)
    ends = (lambda: True) if unwrapped(model) else None
    tap = FeatureTap(node, family_of(model, node), (block,), seen, ends=ends, kind=kind)
    noisy = noised_source(model, item.latent, item.seed, node).at(sigma)

    def observe(denoise: Denoise, clean: torch.Tensor) -> None:
        denoise(sent(noisy, clean), sigma)

    run_pass(attach(model, tap), item.conditioning, image_latent(model, item.latent, node), [sigma], observe)
    return seen.of[block.layers[0]]


def preview_template(model: ModelPatcher, template: Template, latent: dict, vae: VAE | None) -> torch.Tensor:
    """The template image, where a run has made one, and the word's heat over it: [images, height, width, 3] in 0..1."""
    if template.mask is not None:
        gray = torch.full((*template.mask.shape, 3), 0.5)
        return captioned(overlay(gray, template.mask), "layout")
    pictures = pictures_of(model, latent, vae)
    size = (pictures.shape[1], pictures.shape[2])
    # A layer may have other sizes at other noise levels.
    maps = [found for levels in template.maps.values() for found in levels.values()]
    _, high, wide = max((m.shape for m in maps), key=math.prod)
    heat = min_max(
        F.interpolate(mean_heatmap(maps, (high, wide))[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    )
    return torch.cat([captioned(pictures, "template"), captioned(overlay(pictures, heat), "heat")], 2)
