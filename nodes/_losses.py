"""Widgets of UREMDGuidance for its two losses: weights, windows, smoothing, fall of the step size."""

from __future__ import annotations

from ..patching.pick_and_draw.settings import OVER_SAMPLING, OVER_WINDOW
from ._api import ADVANCED, io

__all__ = ["decay_over_input", "form_inputs", "loss_inputs"]


def loss_inputs() -> list[io.Input]:
    """Weight and window of each loss, and the layers of the layout's."""
    return [
        io.Float.Input(
            "appearance_weight",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.01,
            tooltip=(
                "Weight of the appearance loss, the distance to the palette. Neutral: 0. The paper's value is "
                "not known."
            ),
        ),
        io.Float.Input(
            "appearance_start",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.001,
            **ADVANCED,
            tooltip=(
                "When the appearance loss starts to act, as a fraction of sampling. Features before 0.1 carry "
                "little meaning. Neutral: 0. The paper's value is not known; 0.1 is ours."
            ),
        ),
        io.Float.Input(
            "appearance_end",
            default=0.7,
            min=0.0,
            max=1.0,
            step=0.001,
            **ADVANCED,
            tooltip=("When the appearance loss stops acting. Neutral: 1. The paper's value is unknown; 0.7 is ours."),
        ),
        io.Float.Input(
            "layout_weight",
            default=1.0,
            min=0.0,
            max=1000.0,
            step=0.01,
            tooltip=(
                "Weight of the layout loss, the distance to the template's maps. Neutral: 0. The paper's "
                "value is not known."
            ),
        ),
        io.Float.Input(
            "layout_start",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.001,
            **ADVANCED,
            tooltip=(
                "When the layout loss starts to act. Neutral: 0, where layouts are decided. The paper's value "
                "is not known."
            ),
        ),
        io.Float.Input(
            "layout_end",
            default=0.3,
            min=0.0,
            max=1.0,
            step=0.001,
            **ADVANCED,
            tooltip="When the layout loss stops acting. Neutral: 1. The paper's value is unknown; 0.3 is ours.",
        ),
        io.String.Input(
            "layout_blocks",
            default="all",
            **ADVANCED,
            tooltip=(
                "Blocks whose maps follow the template: names (output6), ranges (output6-11), lists, encoder, "
                "decoder, all. The paper: all."
            ),
        ),
    ]


def form_inputs() -> list[io.Input]:
    """The smoothing kernel of the layout loss, and the fall of the step size."""
    return [
        io.Int.Input(
            "kernel_size",
            default=3,
            min=1,
            max=31,
            step=2,
            optional=True,
            **ADVANCED,
            tooltip=(
                "Side of the Gaussian that smooths the layout's maps, in pixels of a map; odd. Neutral: 1. The "
                "paper's value is not known; 3 is that of similar papers."
            ),
        ),
        io.Float.Input(
            "kernel_width",
            default=0.5,
            min=0.01,
            max=10.0,
            step=0.01,
            optional=True,
            **ADVANCED,
            tooltip=(
                "Width s of the Gaussian exp(-(x / 2s)^2). Neutral: 0.01. The paper's value is not known; "
                "similar papers use 0.5, one of them 3."
            ),
        ),
        io.Float.Input(
            "decay",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            **ADVANCED,
            tooltip=(
                "Fall of step_size during sampling, to step_size times the square root of decay. Neutral: 1. "
                "The paper's value is not known; Attend-and-Excite uses 0.5. With decay_over window it falls in "
                "a line to step_size times decay."
            ),
        ),
    ]


def decay_over_input() -> io.Input:
    """The part of a run over which the step size falls."""
    return io.Combo.Input(
        "decay_over",
        options=[OVER_SAMPLING, OVER_WINDOW],
        default=OVER_SAMPLING,
        optional=True,
        **ADVANCED,
        tooltip=(
            "Part of the run over which step_size falls by decay. sampling: all of it. window: from the "
            "first guided step to the last, where decay 0.5 has halved it. Neutral: decay 1. The paper's "
            "choice is not known; similar papers use sampling."
        ),
    )
