"""Masks of the subjects in photos and in pictures, from a folder or by the demo's judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ...demo.launcher.files import Problem
from ...patching.evaluation import masks
from .eyes import JudgeEye
from .subjects import opened


class Masks(Protocol):
    """Source of masks. name: SUBJECT/PHOTO for a photo, the job's name for a picture."""

    def key(self, name: str, content: str) -> str:
        """Text that is the same for two pictures of one mask. content: hash of the picture."""
        ...

    def mask(self, name: str, picture: Image.Image) -> np.ndarray: ...


class FolderMasks:
    """Masks in files NAME.png, white on the subject."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise Problem(f"The folder of masks {folder} is not there: name it with --masks.")
        self.folder = folder

    def key(self, name: str, content: str) -> str:
        return name

    def mask(self, name: str, picture: Image.Image) -> np.ndarray:
        path = self.folder / f"{name}.png"
        if not path.is_file():
            raise Problem(
                f"There is no mask {path}: make it, or leave the masked metrics out with --metrics. A subject that is "
                "not in the picture has a black mask."
            )
        return masks.read(opened(path), picture.size)


class JudgeMasks:
    """Masks of the demo's judge."""

    def __init__(self, eye: JudgeEye):
        self.eye = eye

    def key(self, name: str, content: str) -> str:
        return content

    def mask(self, name: str, picture: Image.Image) -> np.ndarray:
        return self.eye.mask(picture)


class KnownMasks:
    """Masks of a source, each made once, and kept as bits: 3,000 pictures of 512 pixels take 100 MB."""

    def __init__(self, source: Masks):
        self.source = source
        self._bits: dict[str, tuple[np.ndarray, tuple[int, int]]] = {}

    def of(self, name: str, content: str, opener: Callable[[], Image.Image]) -> np.ndarray:
        """Mask [height, width] bool of a picture. content: hash of the picture that `opener` opens."""
        key = self.source.key(name, content)
        if key not in self._bits:
            mask = self.source.mask(name, opener())
            self._bits[key] = np.packbits(mask), (mask.shape[0], mask.shape[1])
        bits, (height, width) = self._bits[key]
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
