"""What a model really saw during one sampling run, kept on the CPU for a later run to follow."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Trajectory:
    """Every (sigma, latent) in the order of the model calls.

    sigmas: noise levels in the variance-exploding convention, one per call.
    latents: [batch, channels, height, width] float32 on the CPU, one per call, in the model's latent space.
    """

    sigmas: tuple[float, ...]
    latents: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.sigmas)

    @property
    def size_in_bytes(self) -> int:
        return sum(latent.numel() * latent.element_size() for latent in self.latents)

    def at(self, sigma: float) -> torch.Tensor:
        """The latent at a recorded noise level; of several calls at one level, the last.

        Raises ValueError where the level was never visited, e.g. because the other run used another scheduler.
        """
        for recorded, latent in zip(reversed(self.sigmas), reversed(self.latents), strict=True):
            if abs(recorded - sigma) <= _TOLERANCE * max(abs(sigma), 1e-3):
                return latent
        levels = ", ".join(f"{s:.3f}" for s in self.sigmas[:4])
        raise ValueError(
            f"TRAJECTORY: expected a noise level that was recorded ({levels}, ...), got sigma {sigma:.4f}; "
            "give both samplers the same steps, scheduler and denoise."
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

    def __len__(self) -> int:
        return len(self.sigmas)

    def record(self, sigma: float, latent: torch.Tensor) -> None:
        self.sigmas.append(sigma)
        # The host samples in inference mode, whose tensors no later run could use with gradients.
        with torch.inference_mode(False), torch.no_grad():
            self.latents.append(torch.empty(latent.shape, dtype=torch.float32).copy_(latent))

    def finish(self) -> Trajectory:
        return Trajectory(tuple(self.sigmas), tuple(self.latents))
