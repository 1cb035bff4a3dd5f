"""Photographs, a VAE and a prompt of one subject for tiny models."""

from __future__ import annotations

import torch
from likeness.patching.features.references import OWN_SIZE
from likeness.patching.host.notices import Notices
from likeness.patching.host.prompt import SubjectPrompt, SubjectText
from likeness.patching.subject.photographs import photographs
from likeness.patching.subject.subject import Subject
from likeness.tests.patching.pick_and_draw.guidance_runs import clip_of, encoded, square

SIDE = 128
TEXTS = (
    SubjectText("a photo of a sks cat on a table", "sks cat"),
    SubjectText("a photo of a cat on a table", "cat"),
    SubjectText("a photo of a sks cat", "sks cat"),
)


class Averages:
    """A VAE that only makes pictures smaller, and counts."""

    def __init__(self):
        self.sizes = []

    def encode(self, pixels):
        self.sizes.append(tuple(pixels.shape[1:3]))
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([small, small[:, :1]], 1)

    def decode(self, samples):
        return torch.nn.functional.interpolate(samples[:, :3], scale_factor=8).movedim(1, -1)


def prompt_of(token: bool = True) -> SubjectPrompt:
    texts = TEXTS if token else (TEXTS[1], TEXTS[1], SubjectText("a photo of a cat", "cat"))
    clip = clip_of()
    return SubjectPrompt(*texts, *(encoded(said.text) for said in texts), encoded(""), clip, clip)  # pyright: ignore[reportArgumentType]


def photo(seed: int = 0, height: int = SIDE, width: int = SIDE, channels: int = 3, count: int = 1) -> torch.Tensor:
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(seed))


def mask(side: int = SIDE) -> torch.Tensor:
    return square(side // 8, side // 4, side // 2)


def read(images: dict, masks: dict | None = None, told: Notices | None = None):
    return photographs(images, masks or {}, told or Notices("Subject"))


def subject_of(*images: torch.Tensor, masks: dict | None = None, **changes) -> Subject:
    given = {f"image{i}": image for i, image in enumerate(images)}
    return Subject(read(given, masks), **{"size": OWN_SIZE, **changes})
