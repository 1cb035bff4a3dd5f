"""The layout's path through a run: its latents and answers, call by call where both runs make the same calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..features.host_memory import sent
from ..features.sources import Source
from ..features.trajectory import Trajectory, same_level
from ..host.predictions import Answer
from ..host.window import SAME_LEVEL
from .settings import FORK, NODE, QKV_BOTH

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider

_SAME_PATH = 1e-3


@dataclass(eq=False)
class LayoutPath:
    """The position of one run on its layout's path.

    source: the layout's latents. levels: the run's noise levels, one per step. first: the trajectory's call with which
    this run begins, None where the run's sampler makes other calls. strict: True where the sampler must hold the
    layout's own latents as long as it gets the layout's answers.
    """

    source: Source
    levels: tuple[float, ...]
    first: int | None = None
    strict: bool = False
    started: bool = False
    _calls: int = 0
    _call: int | None = None
    _forked: bool = False

    @property
    def steps(self) -> tuple[float, ...]:
        """The noise levels on which lambda_2 and lambda_3 count steps."""
        return self.source.step_levels if isinstance(self.source, Trajectory) else self.levels

    def advance(self, sigma: float) -> None:
        """Moves on to the sampler's next call, at a noise level."""
        self.started, self._call = True, None
        if self.first is not None and isinstance(self.source, Trajectory):
            call = self.first + self._calls
            if call < len(self.source) and same_level(self.source.sigmas[call], sigma):
                self._call = call
        self._calls += 1

    def reached(self, step: int, sigma: float) -> bool:
        """True from a step on; a call that looks ahead to the next noise level belongs to its own step."""
        if self._call is None or not isinstance(self.source, Trajectory):
            return reached(self.steps, step, sigma)
        return step < len(self.steps) and self._call >= self.source.calls_above(self.steps[step])

    @property
    def call(self) -> int | None:
        """The trajectory's call that matches the sampler's current one, None where none does."""
        return self._call

    def latents(self, sigma: float) -> torch.Tensor:
        """The layout's latents, [1 or images, channels, height, width]."""
        if self._call is not None and isinstance(self.source, Trajectory):
            return self.source.latents[self._call]
        return self.source.at(sigma)

    def answer(self, sigma: float) -> Answer:
        """The answer that keeps a sampler on the layout's latents."""
        self._forked = True
        if isinstance(self.source, Trajectory):
            if self._call is None:
                raise ValueError(
                    f"{NODE}: expected the layout's own model calls for early_swap {FORK}, got another at sigma "
                    f"{sigma:.4f}; give both samplers the same options, or set early_swap to {QKV_BOTH}."
                )
            return self.source.answer(self._call)
        # Some samplers also call between two steps, where the path is a straight line from one to the other.
        above = min((s for s in self.levels if s >= sigma / SAME_LEVEL), default=sigma)
        below = max((s for s in (*self.levels, 0.0) if s < sigma / SAME_LEVEL), default=0.0)
        start, end = self.source.at(above), self.source.at(below)
        denoised = end - below * (start - end) / (above - below)
        return Answer(denoised, denoised, denoised)

    def check(self, x: torch.Tensor) -> None:
        """Raises ValueError where the sampler left the layout's latents, although it got the layout's answers.

        x: [images, channels, height, width]. It waits for the device, in steps that run no network.
        """
        forked, self._forked = self._forked, False
        if not (forked and self.strict and self._call is not None and isinstance(self.source, Trajectory)):
            return
        layout = sent(self.source.latents[self._call], x)
        if float((x - layout).norm()) > _SAME_PATH * float(layout.expand_as(x).norm()):
            raise ValueError(
                f"{NODE}: expected the sampler to stay on the layout's latents for early_swap {FORK}, got others at "
                f"sigma {float(self.source.sigmas[self._call]):.4f}, because it adds other noise, has other options, "
                "or remembers steps that this run does not contain; give both samplers the same options and batch, "
                f"split sampling after lambda_2 steps at the earliest, or set early_swap to {QKV_BOTH}."
            )


def reached(levels: Sequence[float], step: int, sigma: float) -> bool:
    """True from a step on. levels: falling sigmas, one per step."""
    return step < len(levels) and sigma <= levels[step] * SAME_LEVEL


def path_of(source: Source, levels: tuple[float, ...], sampler: str, strict: bool) -> LayoutPath:
    """The path of a run that starts. levels: its noise levels, one per step. sampler: `sampler_name` of its sampler."""
    first = None
    if isinstance(source, Trajectory) and source.sampler in ("", sampler):
        starts = [i for i in source.step_starts if same_level(source.sigmas[i], levels[0])]
        first = starts[0] if starts else None
    return LayoutPath(source, levels, first, strict)


def starting_noise(
    guider: CFGGuider,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sigmas: torch.Tensor,
    layout: Source,
    denoise_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The noise from which the host makes the layout's latent at the run's first noise level.

    noise, latent_image, denoise_mask: the host's, [images, channels, height, width].
    """
    model = guider.model_patcher
    sampling: Any = model.get_model_object("model_sampling")
    first = sigmas[0]
    inside = latent_image
    if torch.count_nonzero(latent_image):
        inside = model.model.process_latent_in(latent_image)
    largest = float(sampling.sigma_max)
    fully = math.isclose(largest, float(first), rel_tol=1e-05) or float(first) > largest

    def scaled(full: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The host's latent without noise, and what a noise of 1 adds to it."""
        zero, one = torch.zeros_like(noise), torch.ones_like(noise)
        return sampling.noise_scaling(first, zero, inside, full), sampling.noise_scaling(first, one, 0 * inside, full)

    base, unit = scaled(fully)
    if denoise_mask is not None and fully:
        # Where the picture is kept, the host never scales as for the highest level.
        kept_base, kept_unit = scaled(False)
        weight = denoise_mask.to(noise)
        base, unit = torch.lerp(kept_base, base, weight), torch.lerp(kept_unit, unit, weight)
    wanted = layout.at(float(first)).to(noise).expand_as(noise)
    return (wanted - base) / unit
