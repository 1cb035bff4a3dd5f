"""Sizes of pictures: fitted to the resolution that a model was trained at, or to a given latent."""

from __future__ import annotations

import math
from typing import Any

import comfy.utils
import torch
import torch.nn.functional as F

from ..host.family import Resolution

_ALIKE = 0.1
"""Areas and aspect ratios within this share of each other are equal."""


def pixels_per_latent(vae: Any) -> int:
    """The side of a latent pixel in pixels of the picture."""
    return vae.spacial_compression_encode() if hasattr(vae, "spacial_compression_encode") else 8


def latent_size(image: torch.Tensor, vae: Any) -> tuple[int, int]:
    """Height and width of a picture's latent; the VAE crops to whole latent pixels. image: [n, height, width, 3]."""
    ratio = pixels_per_latent(vae)
    return image.shape[1] // ratio, image.shape[2] // ratio


def fitted_size(height: int, width: int, resolution: Resolution) -> tuple[int, int]:
    """The size in latent pixels at which a model sees a picture of this size best.

    The area is that of the training pictures, the shape the picture's own, the sides multiples of the resolution's.
    A size of nearly that area stays.
    """
    area, multiple = resolution.side**2, resolution.multiple
    if abs(height * width / area - 1) <= _ALIKE:
        return height, width
    scale = math.sqrt(area / (height * width))
    # A side is at least one multiple, so that a very long picture must lose its ends.
    longest = max(multiple, area // multiple)
    rows, columns = (min(longest, max(1, round(n * scale / multiple)) * multiple) for n in (height, width))
    return rows, columns


def alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """True for sizes of nearly one shape."""
    return abs(math.log(size[0] / size[1] * other[1] / other[0])) <= _ALIKE


def scaled(
    image: torch.Tensor, mask: torch.Tensor | None, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A picture [1, h, w, 3] and its mask [h, w], scaled to (height, width) in pixels and cropped in the center."""
    image = comfy.utils.common_upscale(image.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)
    if mask is None:
        return image, None
    return image, comfy.utils.common_upscale(mask[None, None], width, height, "area", "center")[0, 0]


def uncropped(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A mask [h, w] of what `scaled` keeps of a picture, as a mask of the picture: [height, width], 0 in its border."""
    whole, kept = width / height, mask.shape[1] / mask.shape[0]
    left = round((width - width * kept / whole) / 2) if whole > kept else 0
    top = round((height - height * whole / kept) / 2) if whole < kept else 0
    inner = F.interpolate(mask[None, None], (height - 2 * top, width - 2 * left), mode="nearest-exact")[0, 0]
    return F.pad(inner, (left, left, top, top))


def reduced(mask: torch.Tensor, most: int) -> torch.Tensor:
    """Masks [n, height, width] with at most `most` pixels each; smaller ones stay as they are."""
    height, width = mask.shape[1:]
    scale = math.sqrt(most / (height * width))
    if scale >= 1:
        return mask
    size = (max(1, int(height * scale)), max(1, int(width * scale)))
    return F.interpolate(mask[:, None].float(), size, mode="area")[:, 0]
