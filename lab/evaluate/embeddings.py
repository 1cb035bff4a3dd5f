"""Cache of embeddings by the hash of the picture, so that a picture is embedded once.

Each block of pictures is a file of its own. No file is written twice, and a run that is killed loses one block at most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..farm.records import whole

BLOCK = 64
"""Pictures that are embedded and saved together."""


class Embeddings:
    """Embeddings of one network, in OUT/embeddings/KEY."""

    def __init__(self, folder: Path, key: str):
        self.folder = folder / "embeddings" / key
        self._known: dict[str, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(str(path), "np") as file:
                    hashes = json.loads(file.metadata()["hashes"])
                    self._known |= dict(zip(hashes, file.get_tensor("embeddings"), strict=True))
            except (SafetensorError, KeyError, ValueError, TypeError):
                continue  # broken: embedded again

    def of(
        self, pictures: Mapping[str, Callable[[], Image.Image]], embed: Callable[[list[Image.Image]], np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Embedding of each picture by its hash. pictures: functions that open one."""
        missing = [name for name in pictures if name not in self._known]
        for start in range(0, len(missing), BLOCK):
            block = missing[start : start + BLOCK]
            found = embed([pictures[name]() for name in block])
            self._known |= dict(zip(block, found, strict=True))
            self._save(block)
        return {name: self._known[name] for name in pictures}

    def _save(self, block: Sequence[str]) -> None:
        tensors = {"embeddings": torch.from_numpy(np.stack([self._known[name] for name in block]))}
        # A name of its content, so that two runs on one folder do not write into each other's files.
        name = hashlib.sha256("\n".join(block).encode()).hexdigest()[:16]
        whole(self.folder / f"{name}.safetensors", save(tensors, {"hashes": json.dumps(list(block))}))
