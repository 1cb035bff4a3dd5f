"""When: the part of sampling in which a node acts."""

from __future__ import annotations

from dataclasses import dataclass

SAME_LEVEL = 1 + 1e-5
"""Two noise levels are one within this ratio: some samplers reach a level through a logarithm and back."""


@dataclass(frozen=True)
class SigmaWindow:
    """Noise levels end_sigma < sigma <= start_sigma: half open, so that windows that meet never overlap."""

    start_sigma: float
    end_sigma: float

    def contains(self, sigma: float) -> bool:
        return self.end_sigma < sigma <= self.start_sigma


@dataclass(frozen=True)
class Window:
    """start_percent to end_percent of sampling, as ComfyUI counts it: 0 is pure noise, 1 the finished picture."""

    start_percent: float = 0.0
    end_percent: float = 1.0

    @property
    def empty(self) -> bool:
        return self.start_percent >= self.end_percent

    def resolve(self, model_sampling) -> SigmaWindow:
        """The window in sigmas of a model's `model_sampling`; once per run."""
        if self.empty:
            return SigmaWindow(0.0, 0.0)
        return SigmaWindow(*(float(model_sampling.percent_to_sigma(p)) for p in (self.start_percent, self.end_percent)))


ALWAYS = Window()
