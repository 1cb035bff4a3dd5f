"""Sentences on a retouch's inputs: those without effect, though no widget is neutral, and the steps of percentages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import comfy.samplers

from ..features.trajectory import Trajectory
from .settings import FORK, NONE, Layout, RetouchSettings

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider

    from ..host.notices import Notices
    from .mask import SubjectMask
    from .run import RetouchRun

_GUIDANCE = ("cfg_function", "pre_cfg_function", "post_cfg_function")
"""The host's options for functions of guidance, without `sampler_`."""


def idle_inputs(
    settings: RetouchSettings,
    layout: Layout | None,
    mask: SubjectMask | None,
    layout_negative: list | None,
    vanilla_prompt_alone: bool,
) -> list[str]:
    """Those of the node's inputs that can have no effect in any run.

    vanilla_prompt_alone: True for a vanilla_conditioning without its model.
    """
    told, window = [], settings.window
    if window.start_percent > window.end_percent:
        told.append(
            f"no effect, because start_percent {window.start_percent:g} lies after end_percent "
            f"{window.end_percent:g}; swap them."
        )
    if layout is None and settings.early_swap not in (NONE, FORK) and settings.stated[0] > 0:
        told.append(
            f"no effect of early_swap {settings.early_swap}, because no layout is connected; connect layout, or set "
            f"early_swap to {NONE}."
        )
    if layout_negative is not None and (layout is None or isinstance(layout, Trajectory)):
        told.append(
            "no effect of layout_negative, because only a REFERENCE as layout has use for it; a TRAJECTORY has its own "
            "negative prompt; disconnect it."
        )
    if vanilla_prompt_alone:
        told.append("no effect of vanilla_conditioning, because vanilla_model is not connected; connect it too.")
    if mask is not None and not mask.follows and bool((mask.fixed >= 1).all()):
        told.append(
            "no effect of the mask, because it is 1 everywhere, so that nothing of the layout is kept; connect the "
            "mask of the subject alone, or disconnect it."
        )
    return told


def idle_steps(run: RetouchRun, sigmas: Sequence[float], continued: bool, references: int) -> list[str]:
    """Those of the node's parts that have no step in a run that is about to start.

    sigmas: the run's noise levels with the last one. continued: True for a run without noise, which continues another.
    references: their number.
    """
    settings, steps = run.settings, run.steps
    known = isinstance(run.layout, Trajectory)
    if not known and continued and settings.lambda_2 > 0 and not settings.by_percent:
        return [
            f"lambda_2 {settings.lambda_2} is counted from the first step of this run, which continues another; set "
            "lambda_2 to 0 if the steps before lambda_2 are over, or connect a TRAJECTORY, whose steps are counted "
            "over all runs."
        ]
    if not known and sigmas[-1] > 0:
        return []  # the steps that are missing here may follow in another run
    told, inside = [], [s for s in steps if run.window.contains(s)]
    if not inside:
        return []  # the run's report says so
    end, (name_2, name_3) = f"end_percent {settings.end_percent:g}", settings.names
    if references and settings.lambda_2 >= len(steps):
        told.append(
            f"no effect of the reference, because all {len(steps)} steps come before lambda_2 {settings.lambda_2}; "
            f"lower {name_2}, or raise the sampler's steps."
        )
    elif references and not any(run.late(s) for s in inside):
        told.append(
            f"no effect of the reference, because {end} comes before step lambda_2 {settings.lambda_2}; raise "
            f"end_percent or lower {name_2}."
        )
    if run.mask_blends and settings.lambda_3 < len(steps) and not any(run.blends(s) for s in inside):
        told.append(
            f"no effect of the mask, because {end} comes before step lambda_3 {settings.lambda_3}; raise end_percent "
            f"or lower {name_3}."
        )
    follows = run.path is not None and settings.lambda_2 > 0 and settings.early_swap not in (NONE, FORK)
    if follows and all(run.late(s) for s in inside):
        told.append(
            f"no effect of early_swap {settings.early_swap}, because start_percent {settings.start_percent:g} comes "
            f"after the steps before lambda_2 {settings.lambda_2}; lower start_percent or raise {name_2}."
        )
    return told


def expected_parts(run: RetouchRun, references: int) -> set[str]:
    """The parts that a run about to start has steps of, by the names of `RetouchRun.met`. references: their number."""
    inside = [s for s in run.levels if s > 0 and run.window.contains(s)]
    parts = {"late": references > 0, "blends": run.mask_blends}
    return {part for part, used in parts.items() if used and any(getattr(run, part)(s) for s in inside)}


def tell_unmet(run: RetouchRun, expected: set[str], notices: Notices) -> None:
    """Tells of an expected part in none of whose steps the model was called.

    Some samplers, such as dpm_fast, take steps of their own.
    """
    missing, settings = expected - run.met, run.settings
    if not missing:
        return
    what, name, step, widget = (
        ("reference", "lambda_2", settings.lambda_2, settings.names[0])
        if "late" in missing
        else ("mask", "lambda_3", settings.lambda_3, settings.names[1])
    )
    notices.tell(
        f"no effect of the {what}, because the model was never called from step {name} {step} on; lower {widget}, "
        "raise the sampler's steps, or choose a sampler that keeps to the schedule."
    )


def counted_steps(settings: RetouchSettings, steps: int, masked: bool) -> str:
    """The steps that the fractions of sampling in the widgets stand for. steps: of the run or its layout."""
    second, third = settings.stated
    told = f"lambda_2_percent {second:g} is {settings.lambda_2} of {steps} steps"
    return f"{told}, lambda_3_percent {third:g} is {settings.lambda_3}." if masked else f"{told}."


def first_mask(run: RetouchRun, mask: SubjectMask | None, continued: bool) -> str | None:
    """The sentence for a mask that follows attention, in a run whose first step has no step before it.

    continued: True for a run without noise, which continues another.
    """
    if mask is None or not mask.follows or not continued or not run.blends(run.levels[0]):
        return None
    return (
        "the first step of this run blends under the mask of Adaptive Mask as it was made, because the attention of "
        "the step before it belongs to another run; to blend as an undivided run, set attention of Adaptive Mask to "
        "recorded."
    )


def unused_guidance(run: RetouchRun, guider: CFGGuider) -> str | None:
    """The sentence for guidance of the run that waits while the layout's answers replace the guider's.

    None where the guider is the host's own without functions of other nodes.
    """
    forked = sum(run.forks(s) for s in run.levels) if run.settings.strength == 1 else 0
    waiting = []
    if type(guider).predict_noise is not comfy.samplers.CFGGuider.predict_noise:
        waiting.append(type(guider).__name__)
    if any(guider.model_options.get(f"sampler_{kind}") for kind in _GUIDANCE):
        waiting.append("guidance that other nodes add to the model")
    if not forked or not waiting:
        return None
    return (
        f"early_swap {FORK} gives the layout's answers in {forked} steps, so {' and '.join(waiting)} "
        f"{'act' if len(waiting) > 1 else 'acts'} from {run.settings.names[0]} on."
    )
