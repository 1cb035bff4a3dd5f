"""OWLv2 (arXiv 2306.09683) from a local folder: the box of a named thing in a picture."""

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

THRESHOLD = 0.1
"""Score of a box below which nothing is found: the value of transformers. Papers name none."""
_GRAY = (127, 127, 127)


class Detector:
    """Network that finds things by their names. key: text that changes with its weights and its threshold."""

    def __init__(self, name: str, folder: Path, device: str = "cpu", threshold: float = THRESHOLD):
        self.known, self.folder, self.device, self.threshold = weights.detector(name), folder, device, threshold
        self.key = f"{name}-{weights.digest(self.known.file(folder))}-{threshold:g}"

    @cached_property
    def network(self) -> Any:
        """Network on its device. Raises ValueError for files that are no whole network of this kind."""
        from transformers import Owlv2ForObjectDetection

        def load() -> Any:
            return Owlv2ForObjectDetection.from_pretrained(self.folder, **loading.OPTIONS)

        return loading.network(self.known, self.folder, load).to(self.device)

    @cached_property
    def tokenizer(self) -> Any:
        return loading.tokenizer(self.known, self.folder)

    def ready(self) -> None:
        """Loads everything, so that it fails before any work. Raises ValueError."""
        _ = self.network, self.tokenizer

    @torch.inference_mode()
    def box(self, picture: Image.Image, noun: str) -> tuple[float, float, float, float] | None:
        """Best box (left, top, right, bottom) in pixels, inside the picture; None if nothing of this name is found."""
        config = self.network.config
        side = max(picture.size)
        square = Image.new("RGB", (side, side), _GRAY)  # the network's boxes are fractions of it
        square.paste(picture.convert("RGB"), (0, 0))
        geometry = Geometry((("squash", config.vision_config.image_size),), "bilinear", "clip")
        length = config.text_config.max_position_embeddings
        words = self.tokenizer(
            [f"a photo of a {noun}"], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        found = self.network(
            input_ids=words["input_ids"].to(self.device),
            attention_mask=words["attention_mask"].to(self.device),
            pixel_values=geometry.pixels(square)[None].to(self.device),
        )
        scores = found.logits[0, :, 0].float()
        best = int(scores.argmax())
        if float(scores[best].sigmoid()) < self.threshold:
            return None
        x, y, width, height = (found.pred_boxes[0, best].float().cpu() * square.width).tolist()
        right, bottom = picture.size
        left, right = (min(max(edge, 0.0), right) for edge in (x - width / 2, x + width / 2))
        top, bottom = (min(max(edge, 0.0), bottom) for edge in (y - height / 2, y + height / 2))
        return left, top, right, bottom


def load(name: str, folders: Sequence[Path], device: str = "cpu") -> Detector:
    """Detector of this name, ready for use. Raises MissingWeights or ValueError."""
    found = Detector(name, weights.detector(name).find(folders), device)
    found.ready()
    return found


def filled(box: tuple[float, float, float, float] | None, size: tuple[int, int]) -> np.ndarray:
    """Mask [height, width] bool of a box in a picture of `size` (width, height); empty for None."""
    mask = np.zeros((size[1], size[0]), bool)
    if box is not None:
        left, top, right, bottom = (round(edge) for edge in box)
        mask[top:bottom, left:right] = True
    return mask
