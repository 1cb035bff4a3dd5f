"""Scores of pictures against photographs and a prompt, and the choice of the best pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ..host.checks import check_count
from .masks import CutOut, is_empty
from .preprocessing import bytes_of
from .similarity import cosines

if TYPE_CHECKING:
    from .metrics import Metrics

SCORE = "Likeness Score"


@dataclass(frozen=True)
class Scores:
    """Scores of n pictures; NaN for one that cannot be scored. text: a line for each, and one on the networks."""

    identity: list[float]
    prompt: list[float]
    text: str
    empty: tuple[int, ...] = ()
    """Numbers, from 1, of pictures with an empty mask."""


def score(
    metrics: Metrics,
    images: torch.Tensor,
    references: torch.Tensor,
    prompt: str = "",
    mask: torch.Tensor | None = None,
    reference_mask: torch.Tensor | None = None,
) -> Scores:
    """Mean cosine of each picture to the references, and its cosine to the prompt.

    images, references: [n, height, width, 3] in 0..1, of any sizes. mask, reference_mask: [1 or n, height, width], the
    subjects' areas, outside of which `identity` sees white. Raises ValueError for a prompt without a network that reads
    it, masks of another number, and references that are all empty.
    """
    wanted = prompt.strip()
    if wanted and metrics.prompt is None:
        raise ValueError(
            f"{SCORE}: expected metrics with a network for the prompt, got none; choose one under prompt of Likeness "
            "Metrics, or clear prompt."
        )
    pictures, photos = _pictures(images), _pictures(references)
    seen = _cut(pictures, mask, "mask")
    known = [one for one in _cut(photos, reference_mask, "reference_mask") if one is not None]
    if not known:
        raise ValueError(
            f"{SCORE}: expected a subject in reference_mask, got empty masks alone; draw the subject's area."
        )
    there = [one for one in seen if one is not None]
    among = metrics.identity.pictures(known)
    found = iter(cosines(metrics.identity.pictures(there), among).mean(1) if there else ())
    identity = [math.nan if one is None else float(next(found)) for one in seen]
    prompted = [math.nan] * len(pictures)
    if wanted and metrics.prompt is not None:
        prompted = cosines(metrics.prompt.pictures(pictures), metrics.prompt.texts([wanted]))[:, 0].tolist()
    lines = [f"{i}: {_values(values, wanted)}" for i, values in enumerate(zip(identity, prompted, strict=True), 1)]
    lines.append(
        f"Identity by {metrics.identity.name}, {len(known)} references"
        + (f"; prompt by {metrics.prompt.name}" if wanted and metrics.prompt else "")
    )
    empty = tuple(i for i, one in enumerate(seen, 1) if one is None)
    return Scores(identity, prompted, "\n".join(lines), empty)


def _values(values: tuple[float, float], wanted: str) -> str:
    identity, prompt = values
    said = "no identity, its mask is empty" if math.isnan(identity) else f"identity {identity:.3f}"
    return f"{said}, prompt {prompt:.3f}" if wanted else said


def _pictures(images: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(one) for one in bytes_of(images[..., :3])]


def _cut(pictures: Sequence[Image.Image], mask: torch.Tensor | None, name: str) -> list[Image.Image | None]:
    """Pictures of the subjects alone; None for an empty mask."""
    if mask is None:
        return list(pictures)
    mask = mask[None] if mask.ndim == 2 else mask
    check_count(len(mask), len(pictures), name, SCORE)
    cut, areas = CutOut(), [_area(one, pictures[0].size) for one in mask]
    found = [areas[min(i, len(areas) - 1)] for i in range(len(pictures))]
    return [None if is_empty(area) else cut.apply(picture, area) for picture, area in zip(pictures, found, strict=True)]


def _area(mask: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Mask [height, width] bool of the pictures' size (width, height)."""
    values = mask.float()[None, None].cpu()
    if values.shape[2:] != (size[1], size[0]):
        values = torch.nn.functional.interpolate(values, size=(size[1], size[0]), mode="nearest-exact")
    return (values[0, 0] > 0.5).numpy()
