"""The adaptive mask of Layout-and-Retouch (arXiv 2407.09779, section 3.4): where the target's own features are kept.

Masks are [images, height, width]. The morphology exists twice, with equal results: by scipy for large pictures on the
CPU, and in torch without any wait for the device, for the small masks of every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F

METRICS = ("L2", "L1", "L-infinity")
CORES = ("both", "subject", "attention", "none")
_FAR = 1e6


@dataclass(frozen=True)
class Morphology:
    """labels(mask) -> [images, height, width] int64, 0 outside, one number per 8-connected component, unique over all
    images; distances(mask, metric) -> fp32 distance of every pixel to the nearest one outside, at least _FAR where
    there is none."""

    labels: Callable[[torch.Tensor], torch.Tensor]
    distances: Callable[[torch.Tensor, str], torch.Tensor]


@dataclass(frozen=True)
class MaskRules:
    """The constants of section 3.4 that the paper leaves open, with our defaults.

    threshold: of the attention map, stretched to 0..1. minimum_area: a smaller component is dropped, as a part of the
    picture. metric: of the distance transform. core: where the mask is 1 outright. background: the mask's value outside
    the subject.
    """

    threshold: float = 0.1
    minimum_area: float = 0.005
    metric: str = "L2"
    core: str = "both"
    background: float = 0.0


def adaptive_mask(
    attention: torch.Tensor, subject: torch.Tensor, rules: MaskRules, morphology: Morphology
) -> torch.Tensor:
    """M = max(Normalize(D(M_u)), M_core), with M_u = OR(M_ca's components that touch M_sam, M_sam) (arXiv 2407.09779,
    section 3.4).

    attention: bool M_ca, subject: bool M_sam, both [images, height, width]. Returns fp32 in {background} or [0.5, 1].
    Step by step: components of the attention that do not touch the subject are noise; small components of the union are
    dropped; D is the distance to the background, stretched to 0.5..1 over the picture's subject; the core is confident.
    Where the distance is constant the mask is 1.
    """
    touching = _components_where(attention, subject, morphology)
    union = touching | subject
    area = rules.minimum_area * union[0].numel()
    union = _large_components(union, area, morphology)
    distance = morphology.distances(union, rules.metric)
    low = distance.masked_fill(~union, math.inf).amin((1, 2), keepdim=True)
    high = distance.masked_fill(~union, -math.inf).amax((1, 2), keepdim=True)
    span = high - low
    graded = torch.where(span > 0, 0.5 + 0.5 * (distance - low) / span, 1.0)
    core = {"both": attention & subject, "subject": subject, "attention": touching, "none": torch.zeros_like(subject)}[
        rules.core
    ]
    graded = torch.where(core & union, 1.0, graded)
    return torch.where(union, graded, rules.background)


def thresholded(maps: torch.Tensor, threshold: float) -> torch.Tensor:
    """M_ca: maps in 0..1 above a threshold (MasaCtrl, arXiv 2304.08465, section 3.3). [images, height, width] -> bool."""
    return maps > threshold


def resized(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The soft mask at a layer's resolution (bilinear), as a column over positions: [images, height, width] -> [images,
    h * w, 1]."""
    if mask.shape[1:] != size:
        mask = F.interpolate(
            mask[:, None], size, mode="bilinear", align_corners=False, antialias=mask.shape[1] > size[0]
        )[:, 0]
    return mask.flatten(1)[..., None]


def blended(target: torch.Tensor, layout: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """f = M * f_target + (1 - M) * f_layout (arXiv 2407.09779, section 3.3, line 11 of Algorithm 1).

    target, layout: [rows, n, width] outputs of a self-attention layer; mask: [rows or 1, n, 1], 1 keeps the target.
    """
    return torch.lerp(layout, target, mask.to(target.dtype))


def _components_where(mask: torch.Tensor, touched: torch.Tensor, morphology: Morphology) -> torch.Tensor:
    """The components of `mask` that share a pixel with `touched`."""
    labels = morphology.labels(mask)
    return mask & (_per_label(labels, touched) > 0)[labels]


def _large_components(mask: torch.Tensor, area: float, morphology: Morphology) -> torch.Tensor:
    labels = morphology.labels(mask)
    return mask & (_per_label(labels, mask) >= area)[labels]


def _per_label(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """[labels + 1]: how many pixels of `mask` carry each label; as long as there are pixels, so that nothing waits for
    a maximum."""
    counts = torch.zeros(labels.numel() + 1, device=labels.device)
    return counts.scatter_add_(0, labels.flatten(), mask.flatten().float())


def _scipy_labels(mask: torch.Tensor) -> torch.Tensor:
    parts, last = [], 0
    for image in mask.cpu().numpy():
        labels = np.empty(image.shape, np.int32)
        count = scipy.ndimage.label(image, np.ones((3, 3)), output=labels)
        parts.append(np.where(labels > 0, labels + last, 0).astype(np.int64))
        last += int(count)  # pyright: ignore[reportArgumentType] - a number where the output is given
    return torch.from_numpy(np.stack(parts)).to(mask.device)


def _scipy_distances(mask: torch.Tensor, metric: str) -> torch.Tensor:
    parts = []
    for image in mask.cpu().numpy():
        if image.all():
            parts.append(np.full(image.shape, _FAR))
        elif metric == "L2":
            parts.append(scipy.ndimage.distance_transform_edt(image))
        else:
            parts.append(scipy.ndimage.distance_transform_cdt(image, "taxicab" if metric == "L1" else "chessboard"))
    return torch.from_numpy(np.stack(parts).astype(np.float32)).to(mask.device)


def _torch_labels(mask: torch.Tensor) -> torch.Tensor:
    """Every pixel's root is the smallest index of its component: roots hook onto smaller neighbours, paths are halved,
    in rounds."""
    images, height, width = mask.shape
    outside = mask.numel()
    inside = mask.flatten()
    parents = torch.where(inside, torch.arange(outside, device=mask.device), outside)
    parents = F.pad(parents, (0, 1), value=outside)
    for _ in range(2 * math.ceil(math.log2(height * width + 1)) + 2):
        grid = parents[:-1].view(images, 1, height, width)
        # Indices up to 2^24 are exact in fp32.
        smallest = -F.max_pool2d(-grid.float(), 3, stride=1, padding=1).flatten().long()
        smallest = torch.where(inside, torch.minimum(smallest, parents[:-1]), outside)
        parents = parents.scatter_reduce(0, parents[:-1], smallest, "amin")
        parents[:-1] = torch.where(inside, torch.minimum(parents[:-1], smallest), outside)
        parents[-1] = outside
        parents = parents[parents]
        parents = parents[parents]
    return torch.where(mask, parents[:-1].view_as(mask) + 1, 0)


def _torch_distances(mask: torch.Tensor, metric: str) -> torch.Tensor:
    """Exact and separable: the nearest pixel outside within each column, then along each row."""
    _, height, width = mask.shape
    rows = torch.arange(height, device=mask.device, dtype=torch.float32)
    columns = torch.arange(width, device=mask.device, dtype=torch.float32)
    apart_y, apart_x = (rows[:, None] - rows).abs(), (columns[:, None] - columns).abs()
    away = mask.float() * _FAR
    down = (apart_y[None, :, :, None] + away[:, None]).amin(2)[:, :, None]
    along = apart_x[None, None]
    if metric == "L1":
        return (down + along).amin(-1)
    if metric == "L-infinity":
        return torch.maximum(down, along).amin(-1)
    return (down.square() + along.square()).amin(-1).sqrt()


SCIPY = Morphology(_scipy_labels, _scipy_distances)
TORCH = Morphology(_torch_labels, _torch_distances)
