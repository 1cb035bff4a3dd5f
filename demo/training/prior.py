"""Pictures of a class by the vanilla model, beside which a subject is learned (DreamBooth, arXiv 2208.12242, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch

from ...kernels.diffusion import ddim_step
from ..launcher.files import digest, replacing
from ..world.captions import caption
from ..world.scene import sample_scene, sample_subject
from .denoiser import Denoiser, schedule, weights_digest
from .pool import sources

PICTURES = 200
STEPS, CFG = 25, 4.0
_BATCH = 50
_SHAPE = (4, 16, 16)


@dataclass(frozen=True)
class Prior:
    """Latents [pictures, 4, 16, 16] of a class, and the caption that each was drawn from."""

    latents: torch.Tensor
    captions: list[str]


def prior_of(name: str, count: int, work: Path, model: Denoiser, device: torch.device) -> Prior:
    """Pictures of a class in many places, cached in the work folder for these weights and this world."""
    captions = captions_of(name, count)
    path = work / f"prior-{name}-{count}-{weights_digest()}-{digest(Path(__file__), *sources())}.pt"
    if path.exists():
        return Prior(torch.load(path, map_location=device, weights_only=True), captions)
    print(f"drawing {count} pictures of a {name}", flush=True)
    latents = drawn(model, captions, device)
    work.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(latents, temporary)
    return Prior(latents, captions)


def captions_of(name: str, count: int) -> list[str]:
    """Captions of random scenes with a subject of the class."""
    found = []
    for i in range(count):
        rng = Random(f"prior-{name}-{i}")
        found.append(caption(sample_scene(rng, replace(sample_subject(rng), name=name)), rng))
    return found


@torch.no_grad()
def drawn(model: Denoiser, captions: list[str], device: torch.device) -> torch.Tensor:
    """Latents [captions, 4, 16, 16] sampled by DDIM with guidance."""
    sigmas, generator = schedule(device), torch.Generator().manual_seed(0)
    times = torch.linspace(len(sigmas) - 1, 0, STEPS).round().long().tolist()
    levels = [*(float(sigmas[time]) for time in times), 0.0]
    null, parts = model.encode([""], device), []
    for start in range(0, len(captions), _BATCH):
        context = model.encode(captions[start : start + _BATCH], device)
        n = len(context)
        x = levels[0] * torch.randn(n, *_SHAPE, generator=generator).to(device)
        both = torch.cat([null.expand(n, -1, -1), context])
        for time, sigma, following in zip(times, levels, levels[1:], strict=False):
            alpha = (sigma**2 + 1) ** -0.5
            noisy = alpha * x
            velocity = model(noisy.repeat(2, 1, 1, 1), torch.full((2 * n,), float(time), device=device), both)
            without, named = velocity.unflatten(0, (2, n))
            denoised = alpha * noisy - sigma * alpha * torch.lerp(without, named, CFG)
            x = ddim_step(x, denoised, sigma, following)
        parts.append(x)
    return torch.cat(parts)
