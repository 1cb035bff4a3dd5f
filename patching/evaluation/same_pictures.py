"""Pictures of one subject among several, for the node Same Subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

from .preprocessing import bytes_of
from .same_subject import MOST, on_white, same_subject

if TYPE_CHECKING:
    from .metrics import Metrics

NODE = "Same Subject"


@dataclass(frozen=True)
class Same:
    """Pictures that show one subject. numbers: their places, from 1. text: a line for each picture."""

    images: list[torch.Tensor]
    numbers: list[int]
    text: str


def same(metrics: Metrics, images: Sequence[torch.Tensor], threshold: float) -> Same:
    """Largest group of which no pair is less similar than `threshold`, by the network of identity.

    images: batches [n, height, width, 3 or 4] of any sizes; the network sees white where they are transparent. Raises
    ValueError for more pictures than can be compared.
    """
    pictures = [one for batch in images for one in batch.split(1)]
    if len(pictures) > MOST:
        raise ValueError(
            f"{NODE}: expected at most {MOST} pictures, got {len(pictures)}; give fewer at once, such as "
            "those of one collage."
        )
    group = same_subject(
        metrics.identity.pictures([on_white(Image.fromarray(bytes_of(one[0]))) for one in pictures]), threshold
    )
    lines = [
        f"{i + 1}: {'dropped, ' + group.reasons[i] if i in group.reasons else 'kept'}" for i in range(len(pictures))
    ]
    lines.append(f"{len(group.kept)} of {len(pictures)} show one subject, by {metrics.identity.name}")
    return Same([pictures[i] for i in group.kept], [i + 1 for i in group.kept], "\n".join(lines))
