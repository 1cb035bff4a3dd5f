"""Detectors from a local folder: the box of a named thing in a picture."""

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

OVERLAP = 0.5
"""Intersection over union above which two boxes are one."""
Box = tuple[float, float, float, float]
_GRAY = (127, 127, 127)
_BILINEAR = Image.Resampling.BILINEAR


class Detector:
    """Network that finds things by their names. key: text that changes with its weights and its threshold."""

    threshold: float
    """Score of a box below which nothing is found: the value of transformers. Papers name none."""
    tokens: str
    """Class of the tokenizer in transformers."""
    kind: str
    """Class of the network in transformers."""

    def __init__(self, name: str, folder: Path, device: str = "cpu", threshold: float | None = None):
        self.known, self.folder, self.device = weights.detector(name), folder, device
        if threshold is not None:
            self.threshold = threshold
        self.key = f"{name}-{weights.digest(self.known.file(folder))}-{self.threshold:g}"

    @cached_property
    def network(self) -> Any:
        """Network on its device. Raises ValueError for files that are no whole network of this kind."""
        import transformers

        def load() -> Any:
            return getattr(transformers, self.kind).from_pretrained(self.folder, **loading.OPTIONS)

        return loading.network(self.known, self.folder, load).to(self.device)

    @cached_property
    def tokenizer(self) -> Any:
        return loading.tokenizer(self.known, self.folder, self.tokens)

    def ready(self) -> None:
        """Loads everything, so that it fails before any work. Raises ValueError."""
        _ = self.network, self.tokenizer

    def _found(self, picture: Image.Image, noun: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [boxes] before the sigmoid, and boxes [boxes, 4] as center, width and height in pixels."""
        raise NotImplementedError

    @torch.inference_mode()
    def box(self, picture: Image.Image, noun: str) -> Box | None:
        """Best box (left, top, right, bottom) in pixels, inside the picture; None if nothing of this name is found."""
        scores, boxes = self._found(picture.convert("RGB"), noun)
        best = int(scores.argmax())
        if float(scores[best].sigmoid()) < self.threshold:
            return None
        left, top, right, bottom = _corners(boxes[best : best + 1], picture)[0].tolist()
        return left, top, right, bottom

    @torch.inference_mode()
    def boxes(self, picture: Image.Image, noun: str) -> list[Box]:
        """Boxes of everything of this name as in `box`, the best first; of boxes that overlap, the better."""
        scores, boxes = self._found(picture.convert("RGB"), noun)
        corners = _corners(boxes, picture)
        scores, kept = scores.sigmoid().cpu(), []
        for i in scores.argsort(descending=True, stable=True).tolist():
            if float(scores[i]) < self.threshold:
                break
            if all(_overlap(corners[i], corners[j]) <= OVERLAP for j in kept):
                kept.append(i)
        return [(left, top, right, bottom) for left, top, right, bottom in corners[kept].tolist()]


class Owlv2(Detector):
    """OWLv2 (arXiv 2306.09683). It sees the picture in a gray square."""

    threshold, tokens, kind = 0.1, "CLIPTokenizer", "Owlv2ForObjectDetection"

    def _found(self, picture: Image.Image, noun: str) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.network.config
        side = max(picture.size)
        square = Image.new("RGB", (side, side), _GRAY)  # the network's boxes are fractions of it
        square.paste(picture, (0, 0))
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
        return found.logits[0, :, 0].float(), found.pred_boxes[0].float().cpu() * side


class GroundingDino(Detector):
    """Grounding DINO (arXiv 2303.05499). It sees the picture at 800 pixels of its shorter side."""

    threshold, tokens, kind = 0.25, "BertTokenizer", "GroundingDinoForObjectDetection"
    short, long = 800, 1333
    """Longest sides in pixels of the picture that the network sees: of its shorter side and of its longer one."""

    def _found(self, picture: Image.Image, noun: str) -> tuple[torch.Tensor, torch.Tensor]:
        words = self.tokenizer(f"{noun.strip().lower()}.", return_tensors="pt").to(self.device)
        pixels = Geometry((), "bilinear", "imagenet").pixels(picture.resize(self._size(picture), _BILINEAR))[None]
        found = self.network(
            pixel_values=pixels.to(self.device),
            pixel_mask=torch.ones_like(pixels[:, 0], dtype=torch.long).to(self.device),
            **words,
        )
        width, height = picture.size
        size = torch.tensor([width, height, width, height], dtype=torch.float32)
        # A box has a score for each token of the text; places after its end are minus infinity.
        return found.logits[0].float().amax(-1), found.pred_boxes[0].float().cpu() * size

    def _size(self, picture: Image.Image) -> tuple[int, int]:
        """Width and height that the network sees, by the rounding of transformers."""
        short, long = min(picture.size), max(picture.size)
        side: float = self.short
        if long / short * side > self.long:
            side = self.long * short / long
        width, height = (round(side) if value == short else int(side * value / short) for value in picture.size)
        return width, height


KINDS: dict[str, type[Detector]] = {
    "owlv2-base-patch16-ensemble": Owlv2,
    "grounding-dino-tiny": GroundingDino,
}


def _corners(boxes: torch.Tensor, picture: Image.Image) -> torch.Tensor:
    """Left, top, right and bottom edges [boxes, 4], inside the picture, of centers, widths and heights."""
    half = boxes[:, 2:] / 2
    corners = torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1).clamp(min=0)
    return torch.minimum(corners, corners.new_tensor([*picture.size, *picture.size]))


def _overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    """Intersection over union of two boxes."""
    inside = (torch.minimum(first[2:], second[2:]) - torch.maximum(first[:2], second[:2])).clamp(min=0).prod()
    areas = (first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - inside
    return float(inside / areas) if float(areas) > 0 else 0.0


def load(name: str, folders: Sequence[Path], device: str = "cpu", threshold: float | None = None) -> Detector:
    """Detector of this name, ready for use. Raises MissingWeights or ValueError."""
    known = weights.detector(name)
    found = KINDS[name](name, known.find(folders), device, threshold)
    found.ready()
    return found


def filled(box: Box | None, size: tuple[int, int]) -> np.ndarray:
    """Mask [height, width] bool of a box in a picture of `size` (width, height); empty for None."""
    mask = np.zeros((size[1], size[0]), bool)
    if box is not None:
        left, top, right, bottom = (round(edge) for edge in box)
        mask[top:bottom, left:right] = True
    return mask
