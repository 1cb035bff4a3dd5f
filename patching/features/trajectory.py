"""What a model really saw during one sampling run, kept on the CPU for a later run to follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from .bank import FeatureBank

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Trajectory:
    """Every (sigma, latent) in the order of the model calls.

    sigmas: noise levels in the variance-exploding convention, one per call.
    latents: [batch, channels, height, width] float32 on the CPU, one per call, in the model's latent space.
    denoised: what guidance made of the model's answer to each of them, alike.
    positive, negative: the CONDITIONING that the run ended with.
    bank: features of these latents, recorded in the run or by a later one.
    sampler: `sampler_name` of the run's; empty where it is not known.
    switch_sigma: calls above this level were the vanilla model's; infinite where none were, or it is not known.
    """

    sigmas: tuple[float, ...]
    latents: tuple[torch.Tensor, ...]
    denoised: tuple[torch.Tensor, ...] = ()
    positive: list = field(default_factory=list)
    negative: list = field(default_factory=list)
    bank: FeatureBank = field(default_factory=FeatureBank)
    sampler: str = ""
    switch_sigma: float = math.inf

    def __len__(self) -> int:
        return len(self.sigmas)

    @property
    def size_in_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.latents, *self.denoised)) + self.bank.size_in_bytes

    def at(self, sigma: float) -> torch.Tensor:
        """The latent at a recorded noise level; of several calls at one level, the last.

        Raises ValueError where the level was never visited, e.g. because the other run used another scheduler.
        """
        return self.latents[self._call(sigma)]

    def denoised_at(self, sigma: float) -> torch.Tensor:
        """What the run made of the latent at a recorded noise level; ValueError as in `at`."""
        return self.denoised[self._call(sigma)]

    def has(self, sigma: float) -> bool:
        return any(_equal(recorded, sigma) for recorded in self.sigmas)

    def _call(self, sigma: float) -> int:
        for i in reversed(range(len(self))):
            if _equal(self.sigmas[i], sigma):
                return i
        levels = ", ".join(f"{s:.3f}" for s in self.sigmas[:4])
        raise ValueError(
            f"TRAJECTORY: expected a noise level that was recorded ({levels}, ...), got sigma {sigma:.4f}; "
            "give both samplers the same steps, scheduler, denoise and kind of sampler."
        )

    def describe(self) -> str:
        """One line for the log and for whatever shows values as text."""
        return f"{len(self)} model calls, {self.size_in_bytes / 2**20:.2f} MiB of RAM"

    __str__ = describe


@dataclass
class TrajectoryRecorder:
    """Collects a trajectory during one run."""

    sigmas: list[float] = field(default_factory=list)
    latents: list[torch.Tensor] = field(default_factory=list)
    denoised: list[torch.Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sigmas)

    def record(self, sigma: float, latent: torch.Tensor, denoised: torch.Tensor) -> None:
        self.sigmas.append(sigma)
        self.latents.append(latent.to("cpu", torch.float32, copy=True))
        self.denoised.append(denoised.to("cpu", torch.float32, copy=True))

    def finish(
        self, positive: list, negative: list, bank: FeatureBank, sampler: str, switch_sigma: float
    ) -> Trajectory:
        # The host samples in inference mode, whose tensors no later run could use with gradients.
        with torch.inference_mode(False), torch.no_grad():
            latents, denoised = (tuple(t.clone() for t in kept) for kept in (self.latents, self.denoised))
        return Trajectory(tuple(self.sigmas), latents, denoised, positive, negative, bank, sampler, switch_sigma)


def _equal(recorded: float, sigma: float) -> bool:
    return abs(recorded - sigma) <= _TOLERANCE * max(abs(sigma), 1e-3)
