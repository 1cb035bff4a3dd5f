"""Sources give the latent of a picture at any noise level. A recorded `trajectory.Trajectory` is one too."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import comfy.sample
import torch

from ...kernels.diffusion import ddim_step, noised
from ..host.checks import image_latent
from ..host.passes import Denoise, run_pass

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class Source(Protocol):
    """A picture at every noise level."""

    def at(self, sigma: float) -> torch.Tensor:
        """The latent that a sampler holds at `sigma`: [batch, channels, height, width] fp32, in the model's space."""
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
        """True where every one of these levels was recorded."""
        return all(any(abs(s - sigma) <= 1e-4 * max(sigma, 1e-3) for s in self.sigmas) for sigma in sigmas)

    def at(self, sigma: float) -> torch.Tensor:
        """The latent at a level; between two recorded ones the partial DDIM step, which is linear in sigma.

        Raises ValueError above the last recorded level.
        """
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


def noised_source(model: ModelPatcher, latent: dict, seed: int, node: str) -> Noised:
    """The Source of a LATENT with the noise that KSampler draws for the same seed."""
    samples = image_latent(model, latent, node)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    assert isinstance(noise, torch.Tensor)
    return Noised(model.model.process_latent_in(samples.float()), noise)


def invert(model: ModelPatcher, conditioning: list, latent: dict, sigmas: Sequence[float], node: str) -> Inverted:
    """DDIM inversion of a LATENT with its own prompt and without guidance (`kernels.diffusion.ddim_step`, upwards).

    sigmas: the noise levels to visit, in any order, e.g. a sampler's schedule; 0 and repeats are left out. Raises
    ValueError without any level above 0.
    """
    levels = sorted({float(s) for s in sigmas if s > 0})
    if not levels:
        raise ValueError(f"{node}: expected a schedule with a noise level above 0, got none; raise steps or denoise.")
    recorded: list[torch.Tensor] = []

    def climb(denoise: Denoise, x: torch.Tensor) -> None:
        recorded.append(x.cpu())
        for low, high in zip([0.0, *levels], levels, strict=False):
            # The network has no sigma of 0, so the clean latent is called at the lowest level.
            at = low or levels[0]
            denoised = denoise(x, at)
            x = ddim_step(x, denoised, low, high) if low else noised(x, high, (x - denoised) / at)
            recorded.append(x.cpu())

    run_pass(model, conditioning, image_latent(model, latent, node), [levels[0], *levels[:-1]], climb)
    return Inverted((0.0, *levels), tuple(recorded), node)
