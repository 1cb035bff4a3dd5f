"""Captions inside pictures: IMAGE has no other place for a name."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

_HEIGHT = 16


def captioned(pictures: torch.Tensor, text: str) -> torch.Tensor:
    """[n, height, width, 3] in 0..1 with `text` on a dark strip above: [n, height + 16, width, 3]."""
    n, _, width, _ = pictures.shape
    strip = Image.new("RGB", (width, _HEIGHT), (24, 24, 24))
    ImageDraw.Draw(strip).text((4, 2), text, fill=(235, 235, 235), font=ImageFont.load_default())
    pixels = torch.from_numpy(np.asarray(strip, dtype=np.float32) / 255).to(pictures)
    return torch.cat([pixels.expand(n, -1, -1, -1), pictures], 1)
