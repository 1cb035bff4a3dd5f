"""Instances by a detector's boxes and Segment Anything inside them (JeDi, arXiv 2407.06187, Algorithm 1, line 4)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...demo.launcher.files import Problem
from ...patching.evaluation import detector, instances
from ..evaluate import eyes
from .plan import Row
from .stages import Cut


class Detected:
    """Detector and segmenter in this process (JeDi, arXiv 2407.06187, Algorithm 1, line 4).

    facts: of the stage. places: folders of the detector's weights.
    """

    def __init__(self, facts: dict[str, Any], places: Sequence[Path], device: str):
        self.facts, self.places, self.device = facts, places, device
        self._one = threading.Lock()

    @cached_property
    def detector(self) -> detector.Detector:
        try:
            return detector.load(self.facts["name"], self.places, self.device, self.facts["threshold"])
        except (FileNotFoundError, ValueError) as error:
            raise Problem(str(error)) from error

    @cached_property
    def segmenter(self) -> Any:
        from ...patching.layout_and_retouch import segment  # which loads the host

        try:
            return segment.load(self.facts["sam"])
        except (FileNotFoundError, ValueError, ImportError) as error:
            raise Problem(str(error)) from error

    def segment(self, row: Row, collage: Image.Image) -> list[Cut]:
        """Instances of the object in a collage, the best found first."""
        with self._one:
            boxes = self.detector.boxes(collage, row.thing)
            masks = self._masks(collage, boxes)
        pixels = np.asarray(collage.convert("RGB"))
        return [Cut(Image.fromarray(one.cut(pixels)), one.dropped) for one in instances.find(masks)]

    def _masks(self, collage: Image.Image, boxes: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
        from ...patching.layout_and_retouch import segment

        if not boxes:
            return np.zeros((0, collage.height, collage.width), np.float32)
        pixels = torch.from_numpy(np.array(collage.convert("RGB"), np.float32))[None] / 255
        nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
        asked = [segment.Prompts(*nothing, np.array(box, np.float32)) for box in boxes]
        return segment.segment(self.segmenter, pixels.expand(len(boxes), -1, -1, -1), asked).numpy()


def of(facts: dict[str, Any], weights: Path | None, device: str) -> Detected:
    """Detector of a plan's stage."""
    return Detected(facts, eyes.folders(weights), device)
