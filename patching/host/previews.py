"""Pictures for previews. Captions are drawn into the pixels, since IMAGE has no place for a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from .checks import has_frames

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

CAPTION = 16
"""Height of a caption in pixels."""


def captioned(pictures: torch.Tensor, text: str) -> torch.Tensor:
    """Pictures [n, height, width, 3] in 0..1 with `text` on a dark strip above: [n, height + 16, width, 3]."""
    n, _, width, _ = pictures.shape
    strip = Image.new("RGB", (width, CAPTION), (24, 24, 24))
    ImageDraw.Draw(strip).text((4, 2), text, fill=(235, 235, 235), font=ImageFont.load_default())
    pixels = torch.from_numpy(np.asarray(strip, dtype=np.float32) / 255).to(pictures)
    return torch.cat([pixels.expand(n, -1, -1, -1), pictures], 1)


def pictures_of(model: ModelPatcher, latent: dict, vae: VAE | None) -> torch.Tensor:
    """Pictures of a LATENT, [images, height, width, 3] in 0..1: decoded, or the host's rough preview without a VAE."""
    samples = latent["samples"]
    if vae is not None:
        pixels = vae.decode(samples)[..., :3].float().cpu().clamp(0, 1)
        return pixels.flatten(0, 1) if pixels.ndim == 5 else pixels
    form: Any = model.get_model_object("latent_format")
    if form.latent_rgb_factors is None:
        rgb = torch.zeros(len(samples), *samples.shape[-2:], 3)
    else:
        rough = samples.float().cpu()
        inside = form.process_in(rough.unsqueeze(2) if rough.ndim == 4 and has_frames(model) else rough)
        inside = inside[:, :, 0] if inside.ndim == 5 else inside
        reshape = getattr(form, "latent_rgb_factors_reshape", None)
        inside = inside if reshape is None else reshape(inside)
        bias = None if form.latent_rgb_factors_bias is None else torch.tensor(form.latent_rgb_factors_bias)
        rgb = (F.linear(inside.movedim(1, -1), torch.tensor(form.latent_rgb_factors).T, bias) + 1) / 2
    size = [pixels_per_latent(form) * n for n in samples.shape[-2:]]
    return F.interpolate(rgb.movedim(-1, 1), size, mode="bilinear", align_corners=False).movedim(1, -1).clamp(0, 1)


def pixels_per_latent(latent_format: Any) -> int:
    """The side of a model's latent pixel in pixels of the picture."""
    return getattr(latent_format, "spacial_downscale_ratio", 8)
