"""Sources give the latent of a picture at any noise level. A recorded `trajectory.Trajectory` is one too."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import comfy.sample
import comfy.samplers
import torch

from ...kernels.diffusion import ddim_step, noised
from ..host.checks import image_latent
from ..host.noise import is_flow, noise_scales
from ..host.passes import Denoise, run_pass
from .host_memory import HostMemory

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


_GRID, _GRID_OF_FLOW = "karras", "simple"
"""The host's schedulers that space an inversion's noise levels.

On the demo model the first one's latents are four times closer to those of a fine inversion than with levels at equal
time steps. In flow matching it leaves fewer than a fifth of the levels for the noisier half. The model's own schedule
there has half the error for pictures of unit variance.
"""


class Source(Protocol):
    """A picture at every noise level."""

    def at(self, sigma: float) -> torch.Tensor:
        """The latent that a sampler holds at `sigma`: [batch, channels, height, width] fp32, in the model's space."""
        ...


@dataclass(frozen=True)
class Noised:
    """A clean latent and one fixed noise, mixed as the host does.

    model_sampling: the MODEL's; None for clean + sigma * noise.
    """

    clean: torch.Tensor
    noise: torch.Tensor
    model_sampling: Any = None

    def at(self, sigma: float) -> torch.Tensor:
        signal, scale = (1.0, sigma) if self.model_sampling is None else noise_scales(self.model_sampling, sigma)
        return noised(self.clean, scale, self.noise, signal)


@dataclass(frozen=True)
class Inverted:
    """A DDIM inversion. sigmas: rising from 0, latents: one for each of them, float32 on the CPU.

    steps: the number of levels that `inversion_levels` was asked for, 0 for levels that something else has chosen.
    error: an estimate of the error with which DDIM steps back down give the picture, relative to its norm.
    """

    sigmas: tuple[float, ...]
    latents: tuple[torch.Tensor, ...]
    steps: int = 0
    error: float = 0.0

    @property
    def size_in_bytes(self) -> int:
        return sum(latent.numel() * latent.element_size() for latent in self.latents)

    def serves(self, steps: int, sigmas: Sequence[float]) -> bool:
        """True for an inversion of this number of steps; one of another origin must have visited each of the levels."""
        if self.steps:
            return self.steps == steps
        return all(any(abs(s - sigma) <= 1e-4 * max(sigma, 1e-3) for s in self.sigmas) for sigma in sigmas)

    def at(self, sigma: float) -> torch.Tensor:
        """The latent at a level; between two recorded ones the partial DDIM step, which is linear in sigma.

        Above the last level the last step is prolonged.
        """
        i = min(bisect.bisect_left(self.sigmas, sigma), len(self.sigmas) - 1)
        if i == 0 or self.sigmas[i] == sigma:
            return self.latents[i]
        low, high = self.sigmas[i - 1], self.sigmas[i]
        return torch.lerp(self.latents[i - 1], self.latents[i], (sigma - low) / (high - low))


def noised_source(model: ModelPatcher, latent: dict, seed: int, node: str) -> Noised:
    """The Source of a LATENT with the noise that KSampler draws for the same seed."""
    samples = image_latent(model, latent, node)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    assert isinstance(noise, torch.Tensor)
    return Noised(model.model.process_latent_in(samples.float()), noise, model.get_model_object("model_sampling"))


def inversion_levels(model: ModelPatcher, steps: int) -> list[float]:
    """The noise levels of an inversion in `steps` steps, falling, over all that the model knows."""
    sampling: Any = model.get_model_object("model_sampling")
    grid = _GRID_OF_FLOW if is_flow(sampling) else _GRID
    return [float(s) for s in comfy.samplers.calculate_sigmas(sampling, grid, steps) if s > 0]


def invert(
    model: ModelPatcher, conditioning: list, latent: dict, sigmas: Sequence[float], node: str, steps: int = 0
) -> Inverted:
    """DDIM inversion of a LATENT with its own prompt and without guidance (`kernels.diffusion.ddim_step`, upwards).

    sigmas: the noise levels to visit, in any order, e.g. `inversion_levels` of `steps`; 0 and repeats are left out. It
    costs one model call per level. Raises ValueError without any level above 0.
    """
    levels = sorted({float(s) for s in sigmas if s > 0})
    if not levels:
        raise ValueError(f"{node}: expected a schedule with a noise level above 0, got none; raise steps or denoise.")
    ascent = _Ascent(levels, [noise_scales(model.get_model_object("model_sampling"), s) for s in levels])
    run_pass(model, conditioning, image_latent(model, latent, node), [levels[0], *levels[:-1]], ascent.climb)
    return Inverted((0.0, *levels), tuple(ascent.latents), steps, ascent.error)


class _Ascent:
    """One inversion. scales: of `noise_scales` at each level."""

    def __init__(self, levels: Sequence[float], scales: Sequence[tuple[float, float]]):
        self.latents: list[torch.Tensor] = []
        self.error = 0.0
        self._levels, self._scales, memory = levels, scales, HostMemory()
        self._kept, self._arrived = memory.copy_of, memory.wait

    def climb(self, denoise: Denoise, clean: torch.Tensor) -> None:
        signal, scale = self._scales[0]
        # The network has no sigma of 0, so the clean latent is called at the lowest level.
        start = signal * clean
        x = noised(clean, scale, (start - signal * denoise(start, self._levels[0])) / scale, signal)
        self.latents += [self._kept(clean), self._kept(x)]
        before, low, error = clean, 0.0, torch.zeros_like(clean)
        for i, (sigma, following) in enumerate(zip(self._levels, self._levels[1:], strict=False)):
            denoised = denoise(x, sigma)
            # Nearly unit noise shrinks on the way down by the deviation of the latent.
            error += (ddim_step(x, denoised, sigma, low) - before) / math.hypot(*self._scales[i])
            before, low, x = x, sigma, ddim_step(x, denoised, sigma, following)
            self.latents.append(self._kept(x))
        self._arrived()
        self.error = float(error.norm() / clean.norm())
