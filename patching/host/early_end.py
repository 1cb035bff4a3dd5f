"""Sampling that ends with a window of noise levels, for runs whose picture nobody needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch

from .run import sampler_name
from .window import SigmaWindow

_RETURNING = "dpm_adaptive"
"""The host's sampler that tries a step, and returns to a higher noise level where the step was too long."""


class _Over(BaseException):
    """Ends a sampler. Not an Exception, so that no handler in between catches it as an error."""


def ending(sampler: comfy.samplers.KSAMPLER, window: SigmaWindow) -> comfy.samplers.KSAMPLER:
    """The sampler with the same model calls up to the end of a window; its result is then the latent that it got.

    A sampler of another pack, which may return to a higher noise level, runs to its own end.
    """
    function = sampler.sampler_function
    if not function.__module__.startswith("comfy.") or sampler_name(sampler).startswith(_RETURNING):
        return sampler

    @functools.wraps(function)
    def until(model, x: torch.Tensor, sigmas: torch.Tensor, *, callback=None, **rest) -> torch.Tensor:
        inside = [(i, sigma) for i, sigma in enumerate(sigmas[:-1].tolist()) if window.contains(sigma)]
        if not inside:
            return function(model, x, sigmas, callback=callback, **rest)
        descent = _Descent(model, callback, inside[-1], window)
        try:
            return function(descent, x, sigmas, callback=descent.note, **rest)
        except _Over:
            return x

    return comfy.samplers.KSAMPLER(until, sampler.extra_options, sampler.inpaint_options)


class _Descent:
    """The model of a sampler, which ends the run at its first call below the last step inside the window.

    Within a step, samplers call the model at falling noise levels. A step may also look ahead to the next one's level,
    so the last step has to begin first.
    """

    def __init__(
        self, model: Any, callback: Callable[[dict], None] | None, last: tuple[int, float], window: SigmaWindow
    ):
        """last: number and noise level of the last step inside the window."""
        self._model, self._callback, self._last, self._window = model, callback, last, window
        self._begun = False

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **arguments) -> torch.Tensor:
        if self._begun:
            level = float(sigma.max())
            if level < self._last[1] and not self._window.contains(level):
                raise _Over
        return self._model(x, sigma, **arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def note(self, state: dict) -> None:
        """The sampler's callback, once per step."""
        self._begun = self._begun or state["i"] >= self._last[0]
        if self._callback is not None:
            self._callback(state)
