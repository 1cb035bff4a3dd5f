"""The model calls of one sampling run, kept on the CPU for a later run to follow."""

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
    denoised: the guided, denoised latents of each call, of the same shape.
    positive, negative: the CONDITIONING at the end of the run.
    bank: features of these latents, recorded in the run or by a later one.
    sampler: `sampler_name` of the run's sampler, empty where unknown.
    switch_sigma: calls above this level were the vanilla model's; infinite where none were or it is unknown.
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
        """The latent at a recorded noise level; the last of several calls at one level.

        Raises ValueError for a level that was never visited, e.g. because the other run used another scheduler.
        """
        return self.latents[self._call(sigma)]

    def denoised_at(self, sigma: float) -> torch.Tensor:
        """The denoised latent at a recorded noise level. Raises ValueError as `at` does."""
        return self.denoised[self._call(sigma)]

    def has(self, sigma: float) -> bool:
        """True for a recorded noise level."""
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
        """One line for the log and for nodes that show values as text."""
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
        """Adds one model call; copies the tensors to the CPU."""
        self.sigmas.append(sigma)
        self.latents.append(latent.to("cpu", torch.float32, copy=True))
        self.denoised.append(denoised.to("cpu", torch.float32, copy=True))

    def finish(
        self, positive: list, negative: list, bank: FeatureBank, sampler: str, switch_sigma: float
    ) -> Trajectory:
        """The trajectory of the recorded calls, in tensors that autograd can use."""
        # The host samples in inference mode, whose tensors no later run could use with gradients.
        with torch.inference_mode(False), torch.no_grad():
            latents, denoised = (tuple(t.clone() for t in kept) for kept in (self.latents, self.denoised))
        return Trajectory(
            tuple(self.sigmas),
            latents,
            denoised,
            positive=positive,
            negative=negative,
            bank=bank,
            sampler=sampler,
            switch_sigma=switch_sigma,
        )


def _equal(recorded: float, sigma: float) -> bool:
    return abs(recorded - sigma) <= _TOLERANCE * max(abs(sigma), 1e-3)
