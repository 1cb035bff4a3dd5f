"""The part of sampling in which a node acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .noise import is_flow

ModelSampling = Any
"""The host's `model_sampling`: percent_to_sigma, sigma_min and sigma_max."""

SAME_LEVEL = 1 + 1e-5
"""Noise levels within this ratio are equal: some samplers compute a level through a logarithm and back."""


@dataclass(frozen=True)
class SigmaWindow:
    """Noise levels end_sigma < sigma <= start_sigma; half open, so that adjacent windows do not overlap."""

    start_sigma: float
    end_sigma: float

    def contains(self, sigma: float) -> bool:
        return self.end_sigma < sigma <= self.start_sigma


@dataclass(frozen=True)
class Window:
    """Part of sampling from start_percent to end_percent, in ComfyUI's scale: 0 is pure noise, 1 the final picture."""

    start_percent: float = 0.0
    end_percent: float = 1.0

    @property
    def empty(self) -> bool:
        return self.start_percent >= self.end_percent

    def overlaps(self, other: Window) -> bool:
        """True where both have a part of sampling in common."""
        return max(self.start_percent, other.start_percent) < min(self.end_percent, other.end_percent)

    def resolve(self, model_sampling: ModelSampling) -> SigmaWindow:
        """The window in sigmas of a model; call it once per run."""
        if self.empty:
            return SigmaWindow(0.0, 0.0)
        start, end = (float(model_sampling.percent_to_sigma(p)) for p in (self.start_percent, self.end_percent))
        # Few steps of a flow model begin at exact percentages, such as 4 at 0, 0.25, 0.5 and 0.75.
        rounding = SAME_LEVEL if is_flow(model_sampling) else 1.0
        return SigmaWindow(rounding * start, rounding * end)


ALWAYS = Window()


def no_effect(window: Window) -> str:
    """The sentence for a window that contains no noise level of a run."""
    return (
        f"no effect on this run, because none of its noise levels lies between start_percent {window.start_percent:g} "
        f"and end_percent {window.end_percent:g}; widen them."
    )


def steps_before(percent: float, levels: Sequence[float], model_sampling: ModelSampling) -> int:
    """The number of steps that begin before a fraction of sampling.

    levels: falling sigmas, one per step.
    """
    end = float(model_sampling.percent_to_sigma(percent)) * SAME_LEVEL
    return sum(sigma > end for sigma in levels)


def shown_steps(
    window: Window,
    levels: Sequence[float],
    model_sampling: ModelSampling,
    names: tuple[str, str] = ("start_percent", "end_percent"),
) -> str:
    """A sentence with the steps of a run that lie in a window; empty for all of sampling, and where none does.

    levels: falling sigmas, one per step. names: of the window's widgets.
    """
    resolved = window.resolve(model_sampling)
    inside = [i for i, sigma in enumerate(levels, 1) if resolved.contains(sigma)]
    if not inside or (window.start_percent <= 0 and window.end_percent >= 1):
        return ""
    steps = f"step {inside[0]}" if len(inside) == 1 else f"steps {inside[0]} to {inside[-1]}"
    start, end = (f"{name} {p:g}" for name, p in zip(names, (window.start_percent, window.end_percent), strict=True))
    return f"{start} to {end}: {steps} of {len(levels)}."


def check_order(start_percent: float, end_percent: float, node: str) -> None:
    """Raises ValueError for a reversed window."""
    if start_percent > end_percent:
        raise ValueError(
            f"{node}: expected start_percent up to end_percent, got {start_percent:g} and {end_percent:g}; swap them."
        )


def check_window(start_percent: float, end_percent: float, node: str) -> None:
    """Raises ValueError for a window without any part of sampling, on a node that needs one."""
    if start_percent >= end_percent:
        raise ValueError(
            f"{node}: expected start_percent below end_percent, got {start_percent:g} and {end_percent:g}; change them."
        )
