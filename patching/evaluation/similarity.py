"""Similarities of embeddings, and the limit above which a picture counts as a copy."""

from __future__ import annotations

import numpy as np

COPY_QUANTILE = 0.95


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [n, channels] scaled to length 1, in float32."""
    values = np.asarray(embeddings, dtype=np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of every pair, [n, m]."""
    return unit(first) @ unit(second).T


def between_photos(photos: np.ndarray, own: bool = False) -> np.ndarray:
    """Cosines of all ordered pairs of a subject's photos, without each photo's pair with itself unless `own`."""
    pairs = cosines(photos, photos)
    return pairs.ravel() if own else pairs[~np.eye(len(pairs), dtype=bool)]


def copy_limit(photos: np.ndarray) -> float:
    """Cosine that one pair in twenty of a subject's own photos exceeds; NaN for a single photo.

    A picture that is closer to a photo than photos are to each other was copied rather than drawn.
    """
    pairs = between_photos(photos)
    return float(np.quantile(pairs, COPY_QUANTILE)) if len(pairs) else float("nan")


def closest(pictures: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Cosine of each picture to the photo that it resembles most, [n]."""
    return cosines(pictures, photos).max(1)
