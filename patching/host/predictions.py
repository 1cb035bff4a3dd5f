"""Predictions that a sampler asks its guider for, and patches that answer in the guider's place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch

from .run import RunState

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider

_AFTER_GUIDANCE = "sampler_post_cfg_function"


class Answer(NamedTuple):
    """A prediction: guided, denoised latents, and both sides before guidance, None where nobody reads them.

    All are [images, channels, height, width].
    """

    denoised: torch.Tensor
    conditional: torch.Tensor | None = None
    unconditional: torch.Tensor | None = None

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Answer:
        """The answer with a change of each of its tensors."""
        return Answer(change(self.denoised), *(None if side is None else change(side) for side in self[1:]))

    def toward(self, other: Answer, amount: float) -> Answer:
        """A linear mix: this answer for an amount of 0, the other for 1; a side that either lacks is missing."""
        pairs = zip(self[1:], other[1:], strict=True)
        sides = (None if a is None or b is None else torch.lerp(a, b, amount) for a, b in pairs)
        return Answer(torch.lerp(self.denoised, other.denoised, amount), *sides)


@dataclass(frozen=True)
class Prediction:
    """One prediction. x: [images, channels, height, width] noisy latents at `sigma`. options: its model_options."""

    state: RunState
    guider: CFGGuider
    x: torch.Tensor
    t: torch.Tensor
    sigma: float
    options: dict

    def watched(self) -> tuple[Prediction, Sides]:
        """The same prediction, and the sides of guidance that it gives, if the sampler reads them."""
        options, sides = watch(self.options, self.guider)
        return replace(self, options=options), sides

    def tell(self, answer: Answer) -> None:
        """Passes an answer to the functions with which the sampler reads the sides of guidance.

        Raises ValueError where they need sides that the answer lacks.
        """
        conditions = getattr(self.guider, "conds", {})
        for function in _of_sampler(self.options, self.guider):
            if answer.unconditional is None:
                raise ValueError(
                    "TRAJECTORY: expected answers without guidance, which this sampler reads, got a trajectory that "
                    "was recorded without them; make the layout again with this sampler."
                )
            function(
                {
                    "denoised": answer.denoised,
                    "cond_denoised": answer.conditional,
                    "uncond_denoised": answer.unconditional,
                    "cond": conditions.get("positive"),
                    "uncond": conditions.get("negative"),
                    "cond_scale": getattr(self.guider, "cfg", 1.0),
                    "model": getattr(self.guider, "inner_model", None),
                    "model_options": self.options,
                    "sigma": self.t,
                    "input": self.x,
                }
            )


Predict = Callable[[Prediction], torch.Tensor]
"""Lets the guider predict. Returns guided, denoised latents."""


@runtime_checkable
class Answering(Protocol):
    """A patch that may answer a sampler in the guider's place, so that the network need not run."""

    def answer(self, prediction: Prediction, predict: Predict) -> torch.Tensor:
        """The guided, denoised latents of a prediction; may call `predict`."""
        ...


@dataclass(eq=False)
class Sides:
    """Reads both sides of guidance, as one of the host's functions after guidance."""

    found: tuple[torch.Tensor | None, torch.Tensor | None] = field(default=(None, None))

    def __call__(self, given: dict[str, Any]) -> torch.Tensor:
        self.found = (given["cond_denoised"], given["uncond_denoised"])
        return given["denoised"]


def watch(options: dict, guider: CFGGuider) -> tuple[dict, Sides]:
    """A call's model_options with a reader of both sides of guidance, if the sampler reads them too."""
    sides = Sides()
    if not _of_sampler(options, guider):
        return options, sides
    # First of all, as other functions change the result but not the sides.
    return {**options, _AFTER_GUIDANCE: [sides, *options[_AFTER_GUIDANCE]]}, sides


def _of_sampler(options: dict, guider: CFGGuider) -> list[Callable]:
    """The functions after guidance that the guider's own options lack: CFG++ samplers put theirs into each call."""
    own = guider.model_options.get(_AFTER_GUIDANCE, [])
    return [f for f in options.get(_AFTER_GUIDANCE, []) if not any(f is g for g in own) and not isinstance(f, Sides)]
