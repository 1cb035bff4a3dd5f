"""The moment at which the personalized model takes over from the vanilla one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..host.window import SAME_LEVEL


def check_step(switch_step: int, steps: int, node: str) -> None:
    """Raises ValueError for a switch after the last step."""
    if switch_step > steps:
        raise ValueError(
            f"{node}: expected switch_step within the run's {steps} steps, got {switch_step}; lower switch_step or "
            "raise steps."
        )


@dataclass(frozen=True)
class Switch:
    """After `steps` sampling steps, or at a fraction `percent` of sampling, whichever is given.

    of: the number of steps that the user asked for. Some schedulers make one more or one less; with `steps` equal to
    `of` the vanilla model takes all of them.
    """

    steps: int | None = None
    percent: float | None = None
    of: int | None = None

    def sigma(self, sigmas: torch.Tensor, model_sampling: Any, node: str) -> float:
        """The noise level of the switch: calls above it go to the vanilla model, infinity means none of them.

        sigmas: [steps + 1] noise levels of the run. Raises ValueError for a step beyond the run.
        """
        if self.percent is not None:
            if self.percent <= 0:
                return math.inf
            return -math.inf if self.percent >= 1 else float(model_sampling.percent_to_sigma(self.percent)) * SAME_LEVEL
        assert self.steps is not None
        run = len(sigmas) - 1
        last = run if self.of is None else self.of
        if self.of is not None:
            check_step(self.steps, last, node)
        elif self.steps > last:
            raise ValueError(
                f"{node}: expected switch_step within the {last} steps of this run, got {self.steps}; lower "
                "switch_step, or set switch_by to percent, which also fits a part of the schedule."
            )
        if self.steps == 0:
            return math.inf
        return -math.inf if self.steps >= min(last, run) else float(sigmas[self.steps]) * SAME_LEVEL
