"""Masks of the subjects in photos and in pictures, from a folder, by a detector, or by the demo's judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from ...demo.launcher.files import Problem
from ...patching.evaluation import detector, masks
from ...patching.evaluation.detector import Detector
from ...patching.layout_and_retouch import segment
from .eyes import JudgeEye
from .plan import Plan
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


class DetectedMasks:
    """Masks of the subject's class word: the box that OWLv2 finds, or Segment Anything inside of this box.

    nouns: class word by the name of a photo or a picture. sam: checkpoint in models/sams; empty for boxes alone.
    """

    def __init__(self, found: Detector, nouns: Mapping[str, str], sam: str = ""):
        self.detector, self.nouns, self.sam = found, nouns, sam

    @cached_property
    def segmenter(self) -> Any:
        try:
            return segment.load(self.sam)
        except (FileNotFoundError, ValueError, ImportError) as error:
            raise Problem(str(error)) from error

    def key(self, name: str, content: str) -> str:
        return f"{content}-{self.nouns[name]}"

    def mask(self, name: str, picture: Image.Image) -> np.ndarray:
        box = self.detector.box(picture, self.nouns[name])
        if box is None or not self.sam:
            return detector.filled(box, picture.size)
        pixels = torch.from_numpy(np.array(picture.convert("RGB"), np.float32))[None] / 255
        nothing = segment.Prompts(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.array(box, np.float32))
        return segment.segment(self.segmenter, pixels, [nothing])[0].numpy() > 0.5


def detected(plan: Plan, found: Detector, sam: str = "") -> DetectedMasks:
    """Masks of a plan's photos and pictures by a detector. Raises Problem for a missing or broken checkpoint."""
    nouns = {job.name: plan.subjects[job.subject].noun for job in plan.jobs()}
    for name, subject in plan.subjects.items():
        nouns |= {f"{name}/{Path(photo.file).stem}": subject.noun for photo in subject.photos}
    source = DetectedMasks(found, nouns, sam)
    if sam:
        _ = source.segmenter
    return source


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
