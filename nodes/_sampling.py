"""The widgets of KSampler that several nodes share; each node says what its own mean."""

from __future__ import annotations

from typing import Any

import comfy.samplers

from ._api import io


def seed_input(tooltip: str, **options: Any) -> io.Input:
    """The widget `seed`, drawn anew after each run unless `options` say otherwise."""
    options = options or {"control_after_generate": True}
    return io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, tooltip=tooltip, **options)


def steps_input(tooltip: str) -> io.Input:
    """The widget `steps`."""
    return io.Int.Input("steps", default=50, min=1, max=10000, tooltip=tooltip)


def cfg_input(tooltip: str) -> io.Input:
    """The widget `cfg`, the scale of classifier-free guidance."""
    return io.Float.Input("cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=tooltip)


def sampler_input(tooltip: str) -> io.Input:
    """The widget `sampler`."""
    return io.Combo.Input("sampler", options=comfy.samplers.KSampler.SAMPLERS, default="ddim", tooltip=tooltip)


def scheduler_input(tooltip: str) -> io.Input:
    """The widget `scheduler`."""
    options = comfy.samplers.KSampler.SCHEDULERS
    return io.Combo.Input("scheduler", options=options, default="ddim_uniform", tooltip=tooltip)


def denoise_input(tooltip: str, least: float = 0.01, **options: Any) -> io.Input:
    """The widget `denoise`, the share of the noise schedule that is run."""
    return io.Float.Input("denoise", default=1.0, min=least, max=1.0, step=0.01, tooltip=tooltip, **options)
