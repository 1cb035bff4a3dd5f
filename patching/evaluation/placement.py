"""Placement of a cut-out subject on an empty picture (JeDi, arXiv 2407.06187, Algorithm 1, line 6)."""

from __future__ import annotations

from random import Random

import numpy as np
from PIL import Image

LEAST_AREA, MOST_AREA = 0.1, 0.4
"""Share of a member's area that its subject covers, least and most; not given in the paper."""


def placed(cut: Image.Image, size: int, rng: Random) -> Image.Image:
    """Subject at a random place of a transparent picture, RGBA [size, size].

    It covers LEAST_AREA to MOST_AREA of the picture, or less if it must fit. cut: RGBA, cropped to the subject.
    """
    covered = float(np.asarray(cut.getchannel("A"), dtype=np.float64).sum()) / 255
    scale = size * (rng.uniform(LEAST_AREA, MOST_AREA) / covered) ** 0.5
    scale = min(scale, size / max(cut.size))
    width, height = (max(1, min(size, round(length * scale))) for length in cut.size)
    # Premultiplied alpha keeps the picture's background from bleeding into the subject's edge.
    small = cut.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    canvas = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    canvas.paste(small, (rng.randint(0, size - width), rng.randint(0, size - height)))
    return canvas


def pasted(subject: Image.Image, background: Image.Image) -> Image.Image:
    """Subject of `placed` on a picture of the same size."""
    composed = background.convert("RGB").copy()
    composed.paste(subject.convert("RGB"), (0, 0), subject.getchannel("A"))
    return composed
