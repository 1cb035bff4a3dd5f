"""Judge of Tinyland, the demo's world: it embeds the subject of a picture and finds the subject's mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

JUDGE = "tinyland-judge"
"""Name of the judge among the networks. Its numbers compare with no published network's."""
WEIGHTS = Path(__file__).resolve().parents[2] / "demo" / "weights" / "judge.safetensors"
SIDE = 128
EMBEDDING = 64
BATCH = 64
_LOOKS = 6
_HEADS = {"class": 8, "colour": 8, "pattern": 4}
_PLACES = 8
_EXTRAS = 7


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
    """Picture [n, 3, 128, 128] in [-1, 1] -> logits by name, mask logits [n, 1, 32, 32], embedding [n, 64].

    The logits of class, `colour`, pattern and place compete; each of those of extras says if one extra is there.
    """

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
        self.place = nn.Sequential(nn.Linear(83 + 96, 64), nn.SiLU(), nn.Linear(64, _PLACES))
        self.extras = nn.Conv2d(96, _EXTRAS, 1)
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
        logits["extras"] = self.extras(coarse).amax((2, 3))  # an extra is somewhere, and small
        logits["place"] = self.place(torch.cat([around, coarse.mean((2, 3))], 1))
        return logits, mask, F.normalize(self.embed(subject).float(), dim=1)


def load(path: Path | None = None) -> Network:
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
    return network


class JudgeEncoder:
    """The judge as a metric's network: embeddings of length 1 of the pictures' subjects, and their masks."""

    name = key = JUDGE

    def __init__(self, device: str = "cpu"):
        self.device = device
        self.network = load()

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Embeddings [n, 64]."""
        return np.concatenate([embedding for _, embedding in self._looks(pictures)])

    def mask(self, picture: Image.Image) -> np.ndarray:
        """Mask [height, width] bool of the subject, of the picture's size."""
        ((found, _),) = self._looks([picture])
        large = Image.fromarray(found[0]).resize(picture.size, Image.Resampling.BILINEAR)
        return np.asarray(large) > 0.5

    @torch.inference_mode()
    def _looks(self, pictures: Sequence[Image.Image]) -> list[tuple[np.ndarray, np.ndarray]]:
        parts = []
        for start in range(0, len(pictures), BATCH):
            pixels = torch.stack([_pixels(picture) for picture in pictures[start : start + BATCH]])
            _, mask, embedding = self.network(pixels.to(self.device))
            found = torch.sigmoid(F.interpolate(mask.float(), size=(SIDE, SIDE), mode="bilinear"))[:, 0]
            parts.append((found.cpu().numpy(), embedding.cpu().numpy()))
        return parts


def scaled(picture: Image.Image) -> Image.Image:
    """Picture in RGB of the judge's size."""
    picture = picture.convert("RGB")
    return picture if picture.size == (SIDE, SIDE) else picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _pixels(picture: Image.Image) -> torch.Tensor:
    """Tensor [3, 128, 128] in [-1, 1]."""
    return torch.from_numpy(np.array(scaled(picture), dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
