"""Connected components and distance transforms of masks, [images, height, width].

They exist twice with equal results: by scipy for large pictures on the CPU, and in torch, without a wait for the
device, for the small masks of every step.
"""

# scipy has no annotations, and torch's own are incomplete.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F

METRICS = ("L2", "L1", "L-infinity")
_FAR = 1e6


@dataclass(frozen=True)
class Morphology:
    """The two operations on bool masks, [images, height, width].

    labels(mask): int64 of the same shape, 0 outside, one number per 8-connected component, unique over all images.
    distances(mask, metric): fp32 distance in pixels to the nearest pixel outside the mask, 0 outside. In a mask
    without any outside it is at least 1e6. metric: one of METRICS.
    """

    labels: Callable[[torch.Tensor], torch.Tensor]
    distances: Callable[[torch.Tensor, str], torch.Tensor]


def components_touching(mask: torch.Tensor, touched: torch.Tensor, morphology: Morphology) -> torch.Tensor:
    """The components of `mask` that share a pixel with `touched`. bool [images, height, width], all three."""
    labels = morphology.labels(mask)
    return mask & (_pixels_per_label(labels, touched) > 0)[labels]


def large_components(mask: torch.Tensor, area: float, morphology: Morphology) -> torch.Tensor:
    """The components of at least `area` pixels. bool [images, height, width], both."""
    labels = morphology.labels(mask)
    return mask & (_pixels_per_label(labels, mask) >= area)[labels]


def _pixels_per_label(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Pixel counts of `mask` under each label, [pixels + 1] fp32."""
    # One entry per pixel instead of one per label: the number of labels would have to be read from the device.
    counts = torch.zeros(labels.numel() + 1, device=labels.device)
    return counts.scatter_add_(0, labels.flatten(), mask.flatten().float())


def _scipy_labels(mask: torch.Tensor) -> torch.Tensor:
    parts: list[np.ndarray[Any, Any]] = []
    last = 0
    for image in mask.cpu().numpy():
        labels = np.empty(image.shape, np.int32)
        count = cast(Any, scipy.ndimage.label(image, np.ones((3, 3)), output=labels))  # a pair without `output`
        parts.append(np.where(labels > 0, labels + last, 0).astype(np.int64))
        last += int(count)
    return torch.from_numpy(np.stack(parts)).to(mask.device)


def _scipy_distances(mask: torch.Tensor, metric: str) -> torch.Tensor:
    parts: list[np.ndarray[Any, Any]] = []
    for image in mask.cpu().numpy():
        if image.all():
            parts.append(np.full(image.shape, _FAR))
        elif metric == "L2":
            parts.append(np.asarray(cast(Any, scipy.ndimage.distance_transform_edt(image))))
        else:
            name = "taxicab" if metric == "L1" else "chessboard"
            parts.append(np.asarray(cast(Any, scipy.ndimage.distance_transform_cdt(image, name))))
    return torch.from_numpy(np.stack(parts).astype(np.float32)).to(mask.device)


def _torch_labels(mask: torch.Tensor) -> torch.Tensor:
    """Labels by union-find in rounds: roots hook onto smaller neighbors, then paths are halved.

    The root of a pixel is the smallest index of its component.
    """
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
