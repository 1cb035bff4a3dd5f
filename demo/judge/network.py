"""Judge's network: attributes of the subject, its place and its mask, and an embedding of the subject under the
mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..world.scene import CLASSES, COLORS, PATTERNS, PLACES

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "judge.safetensors"
EMBEDDING = 64
_LOOKS = 6
_HEADS = {"class": len(CLASSES), "colour": len(COLORS), "pattern": len(PATTERNS)}


@dataclass(frozen=True)
class Verdict:
    """Verdict of the judge on n pictures."""

    class_index: np.ndarray
    """[n] index into scene.CLASSES; the next three index COLORS, PATTERNS and PLACES. `metrics` builds these field
    names from the attributes' published names."""
    colour_index: np.ndarray
    pattern_index: np.ndarray
    place_index: np.ndarray
    mask: np.ndarray
    """[n, height, width] probability that a pixel belongs to the subject."""
    embedding: np.ndarray
    """[n, 64], of length 1."""
    center: np.ndarray
    """[n, 2] x and y of the subject's center of mass, in fractions of the picture; NaN if no subject is found."""
    size: np.ndarray
    """[n] square root of the subject's share of the picture; 0 if no subject is found."""


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(4, width) for _ in range(2)])
        self.layers = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x
        for norm, layer in zip(self.norms, self.layers, strict=True):
            h = layer(F.silu(norm(h)))
        return x + h


class Network(nn.Module):
    """Picture [n, 3, 128, 128] in [-1, 1] -> logits by name, mask logits [n, 1, 32, 32], embedding [n, 64]."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2), nn.SiLU(), nn.Conv2d(24, 48, 3, stride=2, padding=1)
        )
        self.fine = nn.Sequential(_Block(48))
        self.coarse = nn.Sequential(nn.Conv2d(48, 96, 3, stride=2, padding=1), _Block(96), _Block(96))
        self.join = nn.Conv2d(48 + 96, 80, 1)
        self.mask = nn.Conv2d(80, 1, 1)
        # Each look is a learned attention over the subject, such as its emblem or its edge.
        self.look = nn.Conv2d(80, _LOOKS, 1)
        seen = (80 + 3) * _LOOKS
        self.attributes = nn.Linear(seen, 160)
        self.heads = nn.ModuleDict({name: nn.Linear(160, count) for name, count in _HEADS.items()})
        self.place = nn.Sequential(nn.Linear(83 + 96, 64), nn.SiLU(), nn.Linear(64, len(PLACES)))
        self.embed = nn.Sequential(nn.Linear(seen, 160), nn.SiLU(), nn.Linear(160, EMBEDDING))

    def forward(self, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        fine = self.fine(self.stem(images))
        coarse = self.coarse(fine)
        features = F.silu(self.join(torch.cat([fine, F.interpolate(coarse, scale_factor=2.0, mode="bilinear")], 1)))
        mask = self.mask(features)
        seen = torch.cat([features, F.avg_pool2d(images, 4)], 1).flatten(2)  # raw colors beside the features
        inside = F.logsigmoid(mask.float()).flatten(2)
        weights = torch.softmax(self.look(features).flatten(2).float() + inside, -1).to(seen.dtype)
        subject = torch.einsum("nkp,ncp->nkc", weights, seen).flatten(1)
        background = torch.sigmoid(-mask).flatten(2)
        around = (seen * background).sum(-1) / background.sum(-1).clamp(min=1e-3)
        attributes = F.silu(self.attributes(subject))
        logits = {name: head(attributes) for name, head in self.heads.items()}
        logits["place"] = self.place(torch.cat([around, coarse.mean((2, 3))], 1))
        return logits, mask, F.normalize(self.embed(subject).float(), dim=1)


class Judge:
    """`Judge.load().look(images)`; runs on the CPU."""

    def __init__(self, network: Network):
        self.network = network

    @classmethod
    def load(cls, path: Path | None = None) -> Judge:
        """Loads the judge's weights. Raises FileNotFoundError if they are missing, ValueError if they are truncated or
        wrong."""
        path = path or WEIGHTS
        if not path.is_file():
            raise FileNotFoundError(
                f"judge: expected the weights {path.name} in {path.parent}, found none; restore the pack's files."
            )
        network = Network()
        try:
            network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
        except (SafetensorError, RuntimeError) as error:  # RuntimeError lists every tensor that does not fit
            said = str(error).splitlines()[0].rstrip(":.")
            raise ValueError(
                f"judge: expected the judge's whole weights, got {path.name} ({said}); restore the pack's files."
            ) from error
        return cls(network)

    @torch.inference_mode()
    def look(self, images: np.ndarray) -> Verdict:
        """images: [n, 128, 128, 3] uint8. Raises ValueError for any other shape."""
        if images.ndim != 4 or images.shape[1:] != (128, 128, 3) or images.dtype != np.uint8:
            raise ValueError(f"judge: expected uint8 pictures [n, 128, 128, 3], got {images.dtype} {images.shape}.")
        parts = []
        for start in range(0, len(images), 64):
            pixels = torch.from_numpy(np.ascontiguousarray(images[start : start + 64])).permute(0, 3, 1, 2).contiguous()
            logits, mask, embedding = self.network(pixels.float() / 127.5 - 1)
            mask = torch.sigmoid(F.interpolate(mask, size=images.shape[1:3], mode="bilinear"))[:, 0]
            indices = [logits[name].argmax(1) for name in ("class", "colour", "pattern", "place")]
            parts.append([t.numpy() for t in (*indices, mask, embedding)])
        *indices, mask, embedding = (np.concatenate(column) for column in zip(*parts, strict=True))
        class_index, colour_index, pattern_index, place_index = indices
        return Verdict(class_index, colour_index, pattern_index, place_index, mask, embedding, *_layout(mask))


def _layout(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center [n, 2] and size [n] of masks [n, height, width], cut at one half. Under 0.5 % of the picture is no
    subject."""
    found = mask > 0.5
    share = found.mean((1, 2))
    there = share > 0.005
    y, x = (np.arange(s) + 0.5 for s in mask.shape[1:])
    area = np.maximum(found.sum((1, 2)), 1)
    center = np.stack([(found * x).sum((1, 2)) / area / len(x), (found * y[:, None]).sum((1, 2)) / area / len(y)], 1)
    return np.where(there[:, None], center, np.nan), np.where(there, np.sqrt(share), 0.0)
