"""Masks of the subjects in photos and in pictures, from a folder or by the demo's judge."""

from __future__ import annotations

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

    def mask(self, name: str, picture: Image.Image) -> np.ndarray: ...


class FolderMasks:
    """Masks in files NAME.png, white on the subject."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise Problem(f"The folder of masks {folder} is not there: name it with --masks.")
        self.folder = folder

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

    def mask(self, name: str, picture: Image.Image) -> np.ndarray:
        return self.eye.mask(picture)
