"""Sets of pictures of one subject: square members, stacked vertically, with one text for all captions.

Format of JeDi (arXiv 2407.06187, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SEPARATOR = "<|split|>"


def member(picture: Image.Image, size: int) -> np.ndarray:
    """Square in the middle of a picture, scaled to [size, size, 3] uint8."""
    picture = picture.convert("RGB")
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    # Cropped first: resizing with a box mixes pixels of its outside into the edge.
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square if side == size else square.resize((size, size), Image.Resampling.LANCZOS))


def stacked(members: Sequence[np.ndarray]) -> np.ndarray:
    """Picture of a set, [members * size, size, 3]: JeDi (arXiv 2407.06187, section 6) reads height / width members."""
    return np.concatenate(members)


def joined(captions: Sequence[str]) -> str:
    """Text of a set. Raises ValueError for a caption that contains the separator."""
    for caption in captions:
        if SEPARATOR in caption:
            raise ValueError(f"expected captions without {SEPARATOR}, which separates them, got {caption!r}")
    return SEPARATOR.join(captions)


def divided(text: str) -> tuple[str, ...]:
    """Captions of a set's text."""
    return tuple(caption.strip() for caption in text.split(SEPARATOR))
