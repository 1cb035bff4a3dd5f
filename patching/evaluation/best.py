"""Choice of the best pictures of a batch by any score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

NODE = "Keep the Best"


@dataclass(frozen=True)
class Kept:
    """Best pictures, from the best on. numbers: their places, from 1, in the order in which they came."""

    images: torch.Tensor
    latent: dict[str, Any] | None
    numbers: list[int]
    text: str


def keep_best(
    images: Sequence[torch.Tensor], scores: Sequence[float], count: int, latents: Sequence[dict[str, Any]] = ()
) -> Kept:
    """The `count` pictures of the highest scores; of equal ones, those that come first.

    images: batches [n, height, width, channels]. scores: one for each picture; NaN for none, which is never kept.
    latents: of the same pictures, or none. Raises ValueError for other numbers and for kept pictures of several sizes.
    """
    pictures = [one for batch in images for one in batch.split(1)]
    if len(scores) != len(pictures):
        raise ValueError(
            f"{NODE}: expected one score for each of {len(pictures)} pictures, got {len(scores)}; connect the scores "
            "of these pictures."
        )
    usable = [i for i in range(len(scores)) if not math.isnan(scores[i])]
    if count > len(usable):
        raise ValueError(
            f"{NODE}: expected keep of at most {len(usable)}, the number of pictures with a score, got {count}; lower "
            "keep, or draw more pictures."
        )
    chosen = sorted(usable, key=lambda i: -scores[i])[:count]
    kept = [pictures[i] for i in chosen]
    if len(shapes := {tuple(one.shape[1:3]) for one in kept}) > 1:
        sizes = " and ".join(sorted(f"{width} x {height}" for height, width in shapes))
        raise ValueError(
            f"{NODE}: expected pictures of one size, got {sizes}; draw them in one size, or set keep to 1."
        )
    lines = [f"Picture {i + 1} of {len(pictures)}: {scores[i]:.3f}" for i in chosen]
    left = [scores[i] for i in usable if i not in chosen]
    if left:
        lines.append(f"The others: {min(left):.3f} to {max(left):.3f}")
    latent = _chosen(latents, chosen, len(pictures)) if latents else None
    return Kept(torch.cat(kept), latent, [i + 1 for i in chosen], "\n".join(lines))


def _chosen(latents: Sequence[dict[str, Any]], chosen: Sequence[int], count: int) -> dict[str, Any]:
    """Latent of the chosen pictures, with the numbers of their noises in the batch."""
    parts = [_entry(latent, i) for latent in latents for i in range(len(latent["samples"]))]
    if len(parts) != count:
        raise ValueError(
            f"{NODE}: expected a latent for each of {count} pictures, got {len(parts)}; connect the LATENT that was "
            "decoded to these pictures."
        )
    kept = [parts[i] for i in chosen]
    made: dict[str, Any] = {"samples": torch.cat([one["samples"] for one in kept])}
    made["batch_index"] = [one["batch_index"] for one in kept]
    masks = [one["noise_mask"] for one in kept]
    if all(mask is not None for mask in masks):
        made["noise_mask"] = torch.cat(masks)
    return {**{key: value for key, value in latents[0].items() if key not in made and key != "noise_mask"}, **made}


def _entry(latent: dict[str, Any], i: int) -> dict[str, Any]:
    mask, numbers = latent.get("noise_mask"), latent.get("batch_index")
    if mask is not None:
        mask = mask.reshape(-1, 1, *mask.shape[-2:])
        mask = mask[i % len(mask)][None]
    return {
        "samples": latent["samples"][i : i + 1],
        "noise_mask": mask,
        "batch_index": numbers[i] if numbers is not None else i,
    }
