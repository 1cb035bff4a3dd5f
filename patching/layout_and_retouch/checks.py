"""Checks of a retouch before its run starts; each failure is one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ...kernels.layout_and_retouch import weights_matter
from ..features.trajectory import Trajectory, same_level
from ..host.checks import single
from ..host.notices import Notices
from ..host.window import SigmaWindow
from .settings import APPEND, FORK, NODE, NONE, QKV_BOTH, REPLACE, RetouchSettings, prompts_of

if TYPE_CHECKING:
    from .run import RetouchRun

_ADAPTIVE = "dpm_adaptive"


def check_settings(settings: RetouchSettings, follows: bool, masked: bool) -> None:
    """Raises ValueError for settings that contradict each other or leave the layout without a use.

    follows: there is a layout. masked: there is a mask.
    """
    if settings.reference_every < 1:
        raise ValueError(
            f"{NODE}: expected reference_every of at least 1, got {settings.reference_every}; raise reference_every."
        )
    (second, third), (name_2, name_3) = settings.stated, settings.names
    if third < second:
        raise ValueError(
            f"{NODE}: expected {name_3} not below {name_2}, got {third:g} and {second:g}; raise {name_3}: before "
            f"{name_2} the target is the layout."
        )
    if masked and not follows:
        raise ValueError(
            f"{NODE}: expected a layout for the mask to blend with, got none; connect layout, or disconnect mask."
        )
    if follows and not masked and (settings.early_swap == NONE or second == 0):
        raise ValueError(
            f"{NODE}: expected a use for the layout, got early_swap {settings.early_swap}, {name_2} {second:g} and no "
            f"mask; set early_swap to {FORK}, raise {name_2}, or connect mask."
        )


def check_steps(settings: RetouchSettings, steps: int, masked: bool) -> None:
    """Raises ValueError for lambda_2 and lambda_3 beyond the run's number of steps."""
    if settings.lambda_2 > steps or (masked and settings.lambda_3 > steps):
        raise ValueError(
            f"{NODE}: expected lambda_2 and lambda_3 within the run's {steps} steps, got {settings.lambda_2} "
            f"and {settings.lambda_3}; lower them, or raise the sampler's steps."
        )


def check_trajectory(
    layout: Trajectory,
    noise: torch.Tensor,
    levels: Sequence[float],
    settings: RetouchSettings,
    sampler: str,
    masked: bool,
) -> None:
    """Raises ValueError for a trajectory of another size, other noise levels or another sampler than the run's.

    noise: [images, channels, height, width]. levels: the run's sigmas. sampler: `run.sampler_name` of the run's.
    """
    if not len(layout):
        raise ValueError(
            f"{NODE}: expected a trajectory with model calls, got an empty one; give the layout's sampler steps."
        )
    given, wanted = layout.latents[0].shape, noise.shape
    if given[1:] != wanted[1:] or given[0] not in (1, wanted[0]):
        raise ValueError(
            f"{NODE}: expected a trajectory of latents {_shape_text(wanted)}, as the sampler's, got "
            f"{_shape_text(given)}; give both samplers one latent."
        )
    steps = layout.step_levels
    missing = [s for s in levels if not any(same_level(step, s) for step in steps) and not layout.has(s)]
    if missing:
        raise ValueError(
            f"{NODE}: expected a trajectory with the sampler's noise levels, got none at sigma "
            f"{missing[0]:.4f}; give both samplers the same steps, scheduler and denoise."
        )
    forks = settings.early_swap == FORK and settings.lambda_2 > 0
    if forks and layout.sampler not in ("", sampler):
        raise ValueError(
            f"{NODE}: expected the layout's sampler, {layout.sampler}, for early_swap {FORK}, got {sampler}, "
            "which would leave the layout's latents; give both samplers one sampler, or set early_swap to "
            f"{QKV_BOTH}."
        )
    if _ADAPTIVE in sampler and (settings.follows_live or masked):
        raise ValueError(
            f"{NODE}: expected a sampler whose steps have the layout's noise levels, got {_ADAPTIVE}, which chooses "
            f"its own; sample with another, or disconnect mask and set early_swap to {FORK}."
        )


def check_fork_window(settings: RetouchSettings, window: SigmaWindow, early: Sequence[float]) -> None:
    """Raises ValueError for a fork that would begin in the middle of the run.

    early: the run's noise levels before lambda_2.
    """
    if settings.early_swap == FORK and any(sigma > window.start_sigma for sigma in early):
        raise ValueError(
            f"{NODE}: expected start_percent 0 for early_swap {FORK}, which follows the layout from its first step "
            f"on, got {settings.start_percent:g}; set start_percent to 0, or early_swap to {QKV_BOTH}."
        )


def check_beginning(settings: RetouchSettings, noise: torch.Tensor) -> None:
    """Raises ValueError for a layout without steps of its own in a run that continues another one.

    noise: the host's, all zeros in a run that continues another.
    """
    follows = settings.early_swap != NONE and settings.lambda_2 > 0
    if follows and not torch.count_nonzero(noise):
        raise ValueError(
            f"{NODE}: expected a run from its first step on for steps before lambda_2, got one without noise that "
            "continues another; connect the TRAJECTORY of a Two-Model Sampler to layout, whose steps are known, "
            f"or set {settings.names[0]} to 0."
        )


def check_layout(run: RetouchRun, blended: Sequence[float]) -> None:
    """Raises ValueError for a layout whose features are needed and neither recorded nor computable.

    Live layout rows need one plain prompt and use the current weights; banked features may come from any model and
    prompt. blended: the noise levels at which the layout is blended in.
    """
    assert run.layout is not None
    for sigma in blended:
        if run.of_vanilla(sigma) and not run.layout_is_known(sigma, True):
            run.refuse_vanilla(sigma)
    prompts = prompts_of(run.layout, run.layout_negative)
    for flag, name, prompt in zip((True, False), ("positive", "negative"), prompts, strict=True):
        if run.settings.follows_live or not all(run.layout_is_known(s, flag) for s in blended):
            single(prompt, NODE, f"{name} prompt of the layout")


def warn_of_idle_weights(weights: Sequence[float], append: bool, notices: Notices) -> None:
    """Warns where references have weights that cancel in the softmax."""
    if any(w != 1 for w in weights) and not weights_matter(weights, append):
        notices.tell(
            f"a weight of {weights[0]:g} changes nothing, because with attention {REPLACE} a weight counts against "
            f"other references only; set attention to {APPEND} to weigh the reference against the target."
        )


def _shape_text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
