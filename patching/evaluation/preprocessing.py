"""Picture geometry of the published evaluations, from a picture to the tensor that a network reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of each color channel."""


@dataclass(frozen=True)
class Geometry:
    """Resizing, cropping and normalization of a picture.

    steps: pairs of a kind and a size in pixels. "short" scales the shorter side to it, "squash" scales both sides, and
    "crop" cuts a square in the middle.
    """

    steps: tuple[tuple[str, int], ...]
    filter: str
    statistics: str

    def as_dict(self) -> dict[str, object]:
        """Form for JSON and for hashes."""
        return {"steps": [list(step) for step in self.steps], "filter": self.filter, "statistics": self.statistics}

    def pixels(self, picture: Image.Image) -> torch.Tensor:
        """Tensor [3, height, width] in float32."""
        picture = picture.convert("RGB")
        for kind, size in self.steps:
            picture = _crop(picture, size) if kind == "crop" else self._scaled(picture, kind, size)
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in STATISTICS[self.statistics])
        values = torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1) / 255
        return (values - mean) / deviation

    def _scaled(self, picture: Image.Image, kind: str, size: int) -> Image.Image:
        width, height = size, size
        if kind == "short":  # rounds down, as torchvision does
            shorter = min(picture.size)
            width, height = (int(size * side / shorter) for side in picture.size)
        return picture.resize((width, height), FILTERS[self.filter])


def bytes_of(images: torch.Tensor) -> np.ndarray:
    """Pixels [..., channels] uint8 of the host's pictures, whose values are in 0..1."""
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _crop(picture: Image.Image, size: int) -> Image.Image:
    left, top = (round((side - size) / 2) for side in picture.size)
    return picture.crop((left, top, left + size, top + size))


GEOMETRIES = {
    "imagenet-256-224": Geometry((("short", 256), ("crop", 224)), "bicubic", "imagenet"),
    "clip-224": Geometry((("short", 224), ("crop", 224)), "bicubic", "clip"),
    "half-224-squashed": Geometry((("squash", 224),), "bilinear", "half"),
    "half-256-squashed": Geometry((("squash", 256),), "bicubic", "half"),
    "clip-256-squashed-224": Geometry((("squash", 256), ("short", 224), ("crop", 224)), "bicubic", "clip"),
    "timm-248-224": Geometry((("short", 248), ("crop", 224)), "bicubic", "imagenet"),
}
"""Geometries by name.

imagenet-256-224: DINO in DreamBench++ and ImagenHub. clip-224: CLIP's own. half-224-squashed: the file that comes with
DINO's converted weights. half-256-squashed, clip-256-squashed-224: DreamMatcher's code. timm-248-224: timm's DINO.
"""


def fitting(network: str) -> list[str]:
    """Names of the geometries whose pictures a network takes: CLIP has places for 224 pixels alone, DINO scales its
    own."""
    return [name for name, one in GEOMETRIES.items() if one.steps[-1][1] == 224 or not network.startswith("clip")]
