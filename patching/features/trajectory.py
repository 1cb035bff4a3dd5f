"""The model calls of one sampling run, kept on the CPU for a later run to follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..host.predictions import Answer
from ..host.window import SAME_LEVEL
from .bank import FeatureBank
from .host_memory import HostMemory

NEVER = -math.inf
"""Switch of a run in which the vanilla model made every call."""
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
    switch_sigma: calls above this level were the vanilla model's: infinite where none were or it is unknown, NEVER
    where all were.
    conditional, unconditional: the answers before guidance, of the same shape; empty where the sampler had no use for
    them. schedule: the run's noise levels, one per step; starts: the call with which each step begins. Both are empty
    where unknown. seed: of the run's noise, None where unknown.
    vanilla_positive, vanilla_negative: the CONDITIONING of the vanilla model's calls, empty where unknown.
    """

    sigmas: tuple[float, ...]
    latents: tuple[torch.Tensor, ...]
    denoised: tuple[torch.Tensor, ...] = ()
    positive: list = field(default_factory=list)
    negative: list = field(default_factory=list)
    bank: FeatureBank = field(default_factory=FeatureBank)
    sampler: str = ""
    switch_sigma: float = math.inf
    conditional: tuple[torch.Tensor, ...] = ()
    unconditional: tuple[torch.Tensor, ...] = ()
    schedule: tuple[float, ...] = ()
    starts: tuple[int, ...] = ()
    seed: int | None = None
    vanilla_positive: list = field(default_factory=list)
    vanilla_negative: list = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sigmas)

    @property
    def size_in_bytes(self) -> int:
        tensors = (*self.latents, *self.denoised, *self.conditional, *self.unconditional)
        return sum(t.numel() * t.element_size() for t in tensors) + self.bank.size_in_bytes

    def at(self, sigma: float) -> torch.Tensor:
        """The latent at a noise level: a step's own, or one on the line between the two nearest recorded ones.

        Raises ValueError for a level outside the run, e.g. because the other run used another scheduler.
        """
        exact = [i for i in range(len(self)) if same_level(self.sigmas[i], sigma)]
        if exact:
            first = set(self.step_starts)
            return self.latents[next((i for i in exact if i in first), exact[-1])]
        above, below = (self._nearest(sigma, side) for side in (1, -1))
        if above is None or below is None:
            levels = ", ".join(f"{s:.3f}" for s in self.sigmas[:4])
            raise ValueError(
                f"TRAJECTORY: expected a noise level of the recorded run ({levels}, ...), got sigma {sigma:.4f}; "
                "give both samplers the same steps, scheduler, denoise and kind of sampler."
            )
        high, low = self.sigmas[above], self.sigmas[below]
        return torch.lerp(self.latents[below], self.latents[above], (sigma - low) / (high - low))

    def has(self, sigma: float) -> bool:
        """True for a recorded noise level."""
        return any(same_level(recorded, sigma) for recorded in self.sigmas)

    def visits_once(self, sigma: float) -> bool:
        """True for a noise level of a single model call."""
        return sum(same_level(recorded, sigma) for recorded in self.sigmas) == 1

    def answer(self, call: int) -> Answer:
        """The answer to one call."""
        sides = (self.conditional[call], self.unconditional[call]) if self.conditional else (None, None)
        return Answer(self.denoised[call], *sides)

    @property
    def step_starts(self) -> tuple[int, ...]:
        """The call with which each step begins; where unknown, the first call at each lower noise level."""
        if self.starts:
            return self.starts
        lowest = [math.inf, *(min(self.sigmas[: i + 1]) for i in range(len(self)))]
        return tuple(i for i, s in enumerate(self.sigmas) if s * SAME_LEVEL < lowest[i])

    @property
    def step_levels(self) -> tuple[float, ...]:
        """The noise level of each step; where unknown, that of each step's first call."""
        return self.schedule or tuple(self.sigmas[i] for i in self.step_starts)

    def calls_above(self, level: float) -> int:
        """The number of calls of the steps that begin above a noise level."""
        below = [i for i in self.step_starts if self.sigmas[i] <= level * SAME_LEVEL]
        return min(below, default=len(self))

    def _nearest(self, sigma: float, side: int) -> int | None:
        """The step's first call that is nearest to a level, above it for a side of 1, below it for -1."""
        calls = [i for i in self.step_starts if (self.sigmas[i] - sigma) * side > 0]
        return min(calls, key=lambda i: abs(self.sigmas[i] - sigma), default=None)

    @property
    def inverted(self) -> bool:
        """False: its latents were recorded."""
        return False

    def forget(self, identity: str) -> None:
        """Drops the features that a model of this identity made."""
        self.bank.forget(identity)

    def describe(self) -> str:
        """One line for the log and for nodes that show values as text."""
        return f"{len(self)} model calls, {self.size_in_bytes / 2**20:.2f} MiB of RAM"

    __str__ = describe


@dataclass
class TrajectoryRecorder:
    """Collects a trajectory during one run."""

    sigmas: list[float] = field(default_factory=list)
    latents: list[torch.Tensor] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    _memory: HostMemory = field(default_factory=HostMemory)

    def __len__(self) -> int:
        return len(self.sigmas)

    def record(self, sigma: float, latent: torch.Tensor, answer: Answer) -> None:
        """Adds one model call; copies the tensors to the CPU, complete after `finish`."""
        self.sigmas.append(sigma)
        self.latents.append(self._kept(latent))
        self.answers.append(answer.each(self._kept))

    def step(self) -> None:
        """Notes that a sampler reports a step, which most do after its first call."""
        if self.sigmas:
            self.starts.append(len(self.sigmas) - 1)

    def finish(self, positive: list, negative: list, bank: FeatureBank, **facts) -> Trajectory:
        """The trajectory of the recorded calls, in tensors that autograd can use. facts: its other fields."""
        self._memory.wait()
        # The host samples in inference mode, whose tensors no later run could use with gradients.
        with torch.inference_mode(False), torch.no_grad():
            latents = _usable(self.latents)
            denoised, conditional, unconditional = (_usable([a[i] for a in self.answers]) for i in range(3))
        return Trajectory(
            tuple(self.sigmas),
            latents,
            denoised,
            positive=positive,
            negative=negative,
            bank=bank,
            conditional=conditional,
            unconditional=unconditional,
            starts=self._first_calls(),
            **facts,
        )

    def _kept(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._memory.copy_of(tensor.float())

    def _first_calls(self) -> tuple[int, ...]:
        """The call with which each step begins."""
        reported = tuple(dict.fromkeys(self.starts))
        # A sampler with adaptive steps reports each step after its last call.
        ended = bool(reported) and reported[0] > 0
        return (0, *(call + 1 for call in reported[:-1])) if ended else reported


def same_level(recorded: float, sigma: float) -> bool:
    """True for noise levels that differ by rounding alone."""
    return abs(recorded - sigma) <= _TOLERANCE * max(abs(sigma), 1e-3)


def _usable(tensors: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
    """Copies of the tensors; none where one is missing."""
    kept = [t.clone() for t in tensors if t is not None]
    return tuple(kept) if len(kept) == len(tensors) else ()
