"""Cache of embeddings by the hash of the picture, so that a picture is embedded once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .records import whole

BLOCK = 64
"""Pictures that are embedded and saved together."""


class Embeddings:
    """Embeddings of one network, in OUT/embeddings/KEY.safetensors."""

    def __init__(self, folder: Path, key: str):
        self.path = folder / "embeddings" / f"{key}.safetensors"
        self._known: dict[str, np.ndarray] = {}
        if self.path.is_file():
            try:
                with safe_open(str(self.path), "np") as file:
                    hashes = json.loads(file.metadata()["hashes"])
                    self._known = dict(zip(hashes, file.get_tensor("embeddings"), strict=True))
            except (SafetensorError, KeyError, ValueError):
                self._known = {}  # broken: embedded again

    def of(
        self, pictures: Mapping[str, Callable[[], Image.Image]], embed: Callable[[list[Image.Image]], np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Embedding of each picture by its hash. pictures: functions that open one."""
        missing = [name for name in pictures if name not in self._known]
        for start in range(0, len(missing), BLOCK):
            block = missing[start : start + BLOCK]
            found = embed([pictures[name]() for name in block])
            self._known |= dict(zip(block, found, strict=True))
            self._save()
        return {name: self._known[name] for name in pictures}

    def _save(self) -> None:
        tensors = {"embeddings": torch.from_numpy(np.stack(list(self._known.values())))}
        whole(self.path, save(tensors, {"hashes": json.dumps(list(self._known))}))
