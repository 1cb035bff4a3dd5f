"""Verdict of the judge: attributes of the subject, its place, the extras beside it, its mask, and an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ...patching.evaluation.judge import WEIGHTS, Network, load

__all__ = ["WEIGHTS", "Judge", "Network", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """Verdict of the judge on n pictures."""

    class_index: np.ndarray
    """[n] index into scene.CLASSES; the next three index COLORS, PATTERNS and PLACES. `metrics` builds these field
    names from the attributes' published names."""
    colour_index: np.ndarray
    pattern_index: np.ndarray
    place_index: np.ndarray
    extras: np.ndarray
    """[n, 7] bool, by scene.EXTRAS: True where the extra is seen."""
    mask: np.ndarray
    """[n, height, width] probability that a pixel belongs to the subject."""
    embedding: np.ndarray
    """[n, 64], of length 1."""
    center: np.ndarray
    """[n, 2] x and y of the subject's center of mass, in fractions of the picture; NaN if no subject is found."""
    size: np.ndarray
    """[n] square root of the subject's share of the picture; 0 if no subject is found."""


class Judge:
    """`Judge.load().look(images)`; runs on the CPU."""

    def __init__(self, network: Network):
        self.network = network

    @classmethod
    def load(cls, path: Path | None = None) -> Judge:
        """Loads the judge's weights. Raises FileNotFoundError if they are missing, ValueError if they are truncated or
        wrong."""
        return cls(load(path))

    @torch.inference_mode()
    def look(self, images: np.ndarray) -> Verdict:
        """images: [n, 128, 128, 3] uint8. Raises ValueError for any other shape."""
        if images.ndim != 4 or images.shape[1:] != (128, 128, 3) or images.dtype != np.uint8:
            raise ValueError(f"judge: expected uint8 pictures [n, 128, 128, 3], got {images.dtype} {images.shape}.")
        parts = []
        for start in range(0, len(images), 64):
            pixels = torch.from_numpy(np.ascontiguousarray(images[start : start + 64])).permute(0, 3, 1, 2).contiguous()
            logits, mask, embedding = self.network(pixels.float() / 127.5 - 1)
            mask = torch.sigmoid(F.interpolate(mask, size=images.shape[1:3], mode="bilinear"))[:, 0]
            indices = [logits[name].argmax(1) for name in ("class", "colour", "pattern", "place")]
            parts.append([t.numpy() for t in (*indices, logits["extras"] > 0, mask, embedding)])
        *indices, extras, mask, embedding = (np.concatenate(column) for column in zip(*parts, strict=True))
        class_index, colour_index, pattern_index, place_index = indices
        return Verdict(class_index, colour_index, pattern_index, place_index, extras, mask, embedding, *_layout(mask))


def _layout(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center [n, 2] and size [n] of masks [n, height, width], cut at one half. Under 0.5 % of the picture is no
    subject."""
    found = mask > 0.5
    share = found.mean((1, 2))
    there = share > 0.005
    y, x = (np.arange(s) + 0.5 for s in mask.shape[1:])
    area = np.maximum(found.sum((1, 2)), 1)
    center = np.stack([(found * x).sum((1, 2)) / area / len(x), (found * y[:, None]).sum((1, 2)) / area / len(y)], 1)
    return np.where(there[:, None], center, np.nan), np.where(there, np.sqrt(share), 0.0)
