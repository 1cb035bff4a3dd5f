"""Sources: what gives a latent at any noise level. A recorded `trajectory.Trajectory` is one too."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import comfy.sample
import torch

from ...kernels.diffusion import ddim_step, noised
from ..host.checks import image_latent
from ..host.passes import Denoise, run_pass


class Source(Protocol):
    """A picture at every noise level."""

    def at(self, sigma: float) -> torch.Tensor:
        """[batch, channels, height, width] float32 on the CPU, in the model's latent space, as a sampler holds it at
        `sigma`."""
        ...


@dataclass(frozen=True)
class Noised:
    """A clean latent and one fixed noise: clean + sigma * noise, in closed form."""

    clean: torch.Tensor
    noise: torch.Tensor

    def at(self, sigma: float) -> torch.Tensor:
        return noised(self.clean, sigma, self.noise)


@dataclass(frozen=True)
class Inverted:
    """A DDIM inversion. sigmas: rising from 0, latents: one for each of them, float32 on the CPU."""

    sigmas: tuple[float, ...]
    latents: tuple[torch.Tensor, ...]
    node: str = "Inverted"

    @property
    def size_in_bytes(self) -> int:
        return sum(latent.numel() * latent.element_size() for latent in self.latents)

    def visits(self, sigmas: Sequence[float]) -> bool:
        """Whether every one of these levels was recorded."""
        return all(any(abs(s - sigma) <= 1e-4 * max(sigma, 1e-3) for s in self.sigmas) for sigma in sigmas)

    def at(self, sigma: float) -> torch.Tensor:
        """Between two recorded levels: the partial DDIM step, which is linear in sigma. ValueError above the last one."""
        last = self.sigmas[-1]
        if sigma > last * (1 + 1e-4) or sigma < 0:
            raise ValueError(
                f"{self.node}: expected a noise level within the inversion, from 0 to {last:.4f}, got {sigma:.4f}; "
                "invert up to the sampler's first noise level."
            )
        i = min(bisect.bisect_left(self.sigmas, sigma), len(self.sigmas) - 1)
        if i == 0 or self.sigmas[i] <= sigma:
            return self.latents[i]
        low, high = self.sigmas[i - 1], self.sigmas[i]
        return torch.lerp(self.latents[i - 1], self.latents[i], (sigma - low) / (high - low))


def noised_source(model, latent: dict, seed: int, node: str) -> Noised:
    """The Source of a LATENT with the noise that KSampler would draw for the same seed."""
    samples = image_latent(model, latent, node)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    assert isinstance(noise, torch.Tensor)
    return Noised(model.model.process_latent_in(samples.float()), noise)


def invert(model, conditioning: list, latent: dict, sigmas: Sequence[float], node: str) -> Inverted:
    """DDIM inversion of a LATENT with its own prompt and without guidance: the sampler's step, run upwards
    (`kernels.diffusion.ddim_step`).

    sigmas: the noise levels to visit, in any order, e.g. a sampler's schedule; 0 and repeats are left out.
    """
    levels = sorted({float(s) for s in sigmas if s > 0})
    if not levels:
        raise ValueError(f"{node}: expected a schedule with a noise level above 0, got none; raise steps or denoise.")
    recorded: list[torch.Tensor] = []

    def climb(denoise: Denoise, x: torch.Tensor) -> None:
        recorded.append(x.cpu())
        for low, high in zip([0.0, *levels], levels, strict=False):
            # A network knows no sigma of 0: the clean latent passes for one of the lowest level.
            at = low or levels[0]
            denoised = denoise(x, at)
            x = ddim_step(x, denoised, low, high) if low else noised(x, high, (x - denoised) / at)
            recorded.append(x.cpu())

    run_pass(model, conditioning, image_latent(model, latent, node), [levels[0], *levels[:-1]], climb)
    return Inverted((0.0, *levels), tuple(recorded), node)
