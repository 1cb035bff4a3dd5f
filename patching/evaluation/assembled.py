"""A set of pictures as JeDi trains on, for the node Assemble Set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from .preprocessing import bytes_of
from .sets import SEPARATOR, joined, member, stacked

NODE = "Assemble Set"


def assembled(images: Sequence[torch.Tensor], captions: Sequence[str], size: int) -> tuple[torch.Tensor, str, int]:
    """Picture [1, members * size, size, 3], text and number of members of a set.

    images: batches [n, height, width, 3] of any sizes, cropped to their middle square. captions: one for each member,
    or one for all; a text has one on each line. Raises ValueError for another number, and for a caption with the
    separator.
    """
    pictures = [one for batch in images for one in batch]
    lines = [line.strip() for text in captions for line in text.splitlines() or [""]]
    lines = [line for line in lines if line] or [""]
    if len(lines) not in (1, len(pictures)):
        raise ValueError(
            f"{NODE}: expected one caption, or one for each of {len(pictures)} pictures, got {len(lines)}; change "
            "captions."
        )
    if wrong := [line for line in lines if SEPARATOR in line]:
        raise ValueError(f"{NODE}: expected captions without {SEPARATOR}, got '{wrong[0]}'; change captions.")
    whole = stacked([member(Image.fromarray(bytes_of(one[..., :3])), size) for one in pictures])
    text = joined(lines if len(lines) == len(pictures) else lines * len(pictures))
    return torch.from_numpy(whole.astype(np.float32) / 255)[None], text, len(pictures)
