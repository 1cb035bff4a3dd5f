"""Heatmaps of attention maps, the tokens inside a mask, and colors."""

# Torch's own annotations are incomplete.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F

_GRADIENT = (  # dark violet, purple, red, orange, pale yellow: brightness rises with the value
    (0.05, 0.03, 0.30),
    (0.45, 0.05, 0.50),
    (0.85, 0.20, 0.30),
    (0.98, 0.60, 0.15),
    (1.00, 0.98, 0.75),
)


def mean_heatmap(maps: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """The mean over layers of maps brought to one size (DAAM, arXiv 2210.04885, eq. 8, with bilinear interpolation).

    maps: [images, height, width] each, of any sizes; size: (height, width). Returns [images, *size] in fp32.
    """
    resized = [F.interpolate(m.float()[:, None], size, mode="bilinear", align_corners=False)[:, 0] for m in maps]
    return torch.stack(resized).mean(0)


def min_max(maps: torch.Tensor) -> torch.Tensor:
    """Each map stretched to 0..1 (MasaCtrl, arXiv 2304.08465, section 3.3); a constant map becomes 0.

    maps: [images, height, width]. Returns the same shape.
    """
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = high - low
    return torch.where(span > 0, (maps - low) / span, torch.zeros_like(maps))


def inside(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """{j : M(j) = 1}, the tokens that the picked features come from (Pick-and-Draw, arXiv 2401.16762, eq. 5).

    masks: [images, height, width] in 0..1 or bool; size: the (height, width) of a layer's tokens. Returns bool [images,
    height * width], the tokens that a mask fills at least half. A subject smaller than that keeps the tokens that it
    fills most; an empty mask has none.
    """
    filled = F.interpolate(masks[:, None].float(), size, mode="area")[:, 0].flatten(1)
    return (filled >= filled.amax(1, keepdim=True).clamp(max=0.5)) & (filled > 0)


def colors(values: torch.Tensor) -> torch.Tensor:
    """Values in 0..1, [...], as RGB, [..., 3]: dark violet for 0, over red, to pale yellow for 1."""
    gradient = torch.tensor(_GRADIENT, dtype=values.dtype, device=values.device)
    position = values.clamp(0, 1) * (len(_GRADIENT) - 1)
    low = position.long().clamp(max=len(_GRADIENT) - 2)
    return torch.lerp(gradient[low], gradient[low + 1], (position - low)[..., None])


def overlay(images: torch.Tensor, heat: torch.Tensor, strength: float = 0.65) -> torch.Tensor:
    """The heat's colors over a gray copy of the pictures.

    images: [n, height, width, 3] in 0..1; heat: [n, height, width] in 0..1; strength: 0 shows the gray copy, 1 the
    heat. Returns [n, height, width, 3] in 0..1.
    """
    gray = (images @ images.new_tensor([0.299, 0.587, 0.114]))[..., None]
    return torch.lerp(gray, colors(heat), strength).clamp(0, 1)


def principal_colors(features: torch.Tensor) -> torch.Tensor:
    """The first three principal components of features as RGB (plug-and-play features, arXiv 2211.12572, fig. 3).

    features: [tokens, channels]. Returns [tokens, 3], each component stretched to 0..1; a missing component is 0.
    """
    centered = features.float() - features.float().mean(0)
    # The channels' covariance is smaller than the tokens': pictures have many more tokens than channels.
    directions = cast(torch.Tensor, torch.linalg.eigh(centered.T @ centered).eigenvectors)
    parts = centered @ directions.flip(1)[:, :3]
    span = parts.amax(0) - parts.amin(0)
    parts = torch.where(span > 0, (parts - parts.amin(0)) / span.clamp(min=1e-30), 0)
    return F.pad(parts, (0, 3 - parts.shape[1]))
