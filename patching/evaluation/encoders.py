"""CLIP and DINO from local folders, as embeddings of pictures and texts in float32."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from . import loading, weights
from .preprocessing import Geometry
from .similarity import unit

BATCH = 16


class Encoder:
    """Network that embeds pictures.

    key: text that changes with the weights and the geometry, so that an embedding can be cached under it.
    """

    def __init__(self, name: str, folder: Path, geometry: Geometry, device: str = "cpu"):
        self.name, self.folder, self.geometry, self.device = name, folder, geometry, device
        self.hash = weights.digest(weights.named(name).file(folder))
        steps = "-".join(f"{kind}{size}" for kind, size in geometry.steps)
        self.key = f"{name}-{self.hash}-{steps}-{geometry.filter}-{geometry.statistics}"

    @cached_property
    def network(self) -> Any:
        """Network on its device. Raises ValueError for files that are no whole network of this kind."""
        return loading.network(weights.named(self.name), self.folder, self._loaded).to(self.device)

    def _loaded(self) -> tuple[Any, dict[str, Any]]:
        """Network, and what transformers says of its loading."""
        raise NotImplementedError

    def ready(self) -> None:
        """Loads everything, so that it fails before any work. Raises ValueError."""
        _ = self.network

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Embeddings of length 1, [n, channels]."""
        parts = []
        for start in range(0, len(pictures), BATCH):
            pixels = torch.stack([self.geometry.pixels(picture) for picture in pictures[start : start + BATCH]])
            parts.append(self._embed(pixels.to(self.device)).float().cpu().numpy())
        return unit(np.concatenate(parts))


class Clip(Encoder):
    """CLIP's projected embeddings of pictures and texts."""

    def _loaded(self) -> tuple[Any, dict[str, Any]]:
        from transformers import CLIPModel

        loaded: Any = CLIPModel.from_pretrained(self.folder, **loading.OPTIONS)
        return loaded

    @cached_property
    def tokenizer(self) -> Any:
        """Tokenizer of the network's folder. Raises ValueError for broken files."""
        return loading.tokenizer(weights.named(self.name), self.folder)

    def ready(self) -> None:
        _ = self.network, self.tokenizer

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled = self.network.vision_model(pixel_values=pixels).pooler_output
        return self.network.visual_projection(pooled)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of length 1, [n, channels]; a longer text than the network reads is cut off."""
        parts = []
        for start in range(0, len(texts), BATCH):
            tokens = self.tokenizer(
                list(texts[start : start + BATCH]), padding=True, truncation=True, return_tensors="pt"
            ).to(self.device)
            pooled = self.network.text_model(**tokens).pooler_output
            parts.append(self.network.text_projection(pooled).float().cpu().numpy())
        return unit(np.concatenate(parts))


class Dino(Encoder):
    """Class token of DINO's last layer."""

    def _loaded(self) -> tuple[Any, dict[str, Any]]:
        from transformers import AutoModel

        # DINOv2 has no pooling layer, and the layer of the first DINO has no trained weights.
        options = {} if self.name.startswith("dinov2") else {"add_pooling_layer": False}
        return AutoModel.from_pretrained(self.folder, **options, **loading.OPTIONS)

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        other = {} if self.name.startswith("dinov2") else {"interpolate_pos_encoding": True}
        return self.network(pixel_values=pixels, **other).last_hidden_state[:, 0]


def load(name: str, folders: Sequence[Path], geometry: Geometry, device: str = "cpu") -> Encoder:
    """Encoder of a network in KNOWN. Raises MissingWeights or ValueError."""
    kind = Clip if name.startswith("clip") else Dino
    return kind(name, weights.named(name).find(folders), geometry, device)
