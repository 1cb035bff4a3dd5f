"""The steps of a sampling that came before one of its later parts."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.samplers
import numpy as np

from .window import SAME_LEVEL, ModelSampling

_USUAL = 100
"""Steps of the schedule by which the others' number is estimated."""
_NEAR = 3
"""Numbers of steps tried on each side of the estimate. Levels that a schedule takes from those of training are uneven.
With three levels and more, the schedules of ComfyUI 0.30 need one number up to 50 steps, and three up to 100. Only
*beta* needs more there, with fewer than five levels."""


def earlier_levels(sigmas: Sequence[float], model_sampling: ModelSampling) -> tuple[float, ...] | None:
    """The noise levels before those of a run that continues another, by the host's own schedules.

    sigmas: the run's, which may end with 0. None where no schedule has these levels, or where several have them that
    differ in what came before.
    """
    part = [s for s in sigmas if s > 0]
    if not part or part[0] * SAME_LEVEL >= float(model_sampling.sigma_max):
        return ()
    if len(part) < 2:
        return None
    found: dict[int, tuple[float, ...]] = {}
    for name in comfy.samplers.SCHEDULER_NAMES:
        steps = _USUAL
        for _ in range(2):
            steps = _estimate(part, _levels(name, steps, model_sampling), steps)
        for count in range(max(1, steps - _NEAR), steps + _NEAR + 1):
            levels = _levels(name, count, model_sampling)
            start = next((i for i, s in enumerate(levels) if s <= part[0] * SAME_LEVEL), len(levels))
            if _same(levels[start : start + len(part)], part):
                found[start] = tuple(levels[:start])
    return next(iter(found.values())) if len(found) == 1 else None


def _levels(name: str, steps: int, model_sampling: ModelSampling) -> list[float]:
    """The levels of a schedule above 0."""
    return [s for s in comfy.samplers.calculate_sigmas(model_sampling, name, steps).tolist() if s > 0]


def _estimate(part: Sequence[float], levels: Sequence[float], steps: int) -> int:
    """The number of steps with which a schedule has about as many levels in the part's range as the part.

    levels: of the schedule with `steps` steps.
    """
    if len(levels) < 2:
        return len(part)
    first, last = np.interp(np.log([part[0], part[-1]]), np.log(levels[::-1]), np.arange(len(levels))[::-1])
    return min(round((len(part) - 1) * steps / max(float(last - first), 1e-3)), 10 * _USUAL)


def _same(levels: Sequence[float], part: Sequence[float]) -> bool:
    return len(levels) == len(part) and all(
        b / SAME_LEVEL <= a <= b * SAME_LEVEL for a, b in zip(levels, part, strict=True)
    )
