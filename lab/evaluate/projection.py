"""Embeddings on two axes: UMAP where it is installed, principal components elsewhere."""

from __future__ import annotations

import importlib.util

import numpy as np


def method() -> str:
    """Name of the projection, for the axes of its plot."""
    return "UMAP" if importlib.util.find_spec("umap") else "principal components"


def project(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, channels] on two axes, [n, 2]."""
    if method() == "UMAP" and len(vectors) > 15:
        import umap  # pyright: ignore[reportMissingImports]

        return np.asarray(umap.UMAP(metric="cosine", random_state=0).fit_transform(vectors))
    centered = vectors - vectors.mean(0)
    directions = np.linalg.svd(centered, full_matrices=False)[2][:2]
    places = centered @ directions.T
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
