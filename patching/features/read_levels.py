"""Noise levels at which references are read, so that neighboring levels share one reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..host.window import SAME_LEVEL


@dataclass(frozen=True)
class ReadLevels:
    """Falling noise levels of a run in groups of `every`; the features of a group's first call serve all of it."""

    sigmas: tuple[float, ...] = ()
    every: int = 1

    @staticmethod
    def of(sigmas: Sequence[float], every: int) -> ReadLevels:
        """The groups of a run's noise levels."""
        return ReadLevels(tuple(sorted({float(s) for s in sigmas}, reverse=True)), every)

    @property
    def first(self) -> tuple[float, ...]:
        """The first level of each group."""
        return self.sigmas[:: self.every]

    def group(self, sigma: float) -> float | None:
        """The first level of the group of a call, also of one between two levels; None where every call is read."""
        if self.every == 1 or not self.sigmas:
            return None
        reached = sum(level * SAME_LEVEL >= sigma for level in self.sigmas)
        index = max(0, reached - 1)
        return self.sigmas[index - index % self.every]
