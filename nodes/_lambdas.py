"""Widgets of lambda_2 and lambda_3 on MultiSourceAttnSwap, and their check before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..patching.layout_and_retouch.checks import check_settings
from ..patching.layout_and_retouch.settings import PERCENT, STEP, RetouchSettings
from ._api import io

__all__ = ["check_lambdas", "percent_inputs", "step_inputs"]


def step_inputs() -> list[io.Input]:
    """The widgets of both as numbers of steps."""
    return [
        io.Int.Input(
            "lambda_2",
            default=10,
            min=0,
            max=10000,
            tooltip=(
                "Number of steps that follow the layout; the reference acts after them. Neutral: 0. The "
                "paper's value is not known; 10 of 50 is our default."
            ),
        ),
        io.Int.Input(
            "lambda_3",
            default=10,
            min=0,
            max=10000,
            tooltip=(
                "The first step that blends in the layout's background under the mask; not below lambda_2. "
                "The paper's value is not known; 10 of 50 is our default. Neutral: the number of steps."
            ),
        ),
    ]


def percent_inputs() -> list[io.Input]:
    """The optional widgets of both as fractions of sampling."""
    return [
        io.Combo.Input(
            "lambdas_by",
            options=[STEP, PERCENT],
            default=STEP,
            optional=True,
            tooltip=(
                "The widgets that hold lambda_2 and lambda_3: numbers of steps (the paper's way), or fractions of "
                "sampling. Fractions fit any number of steps and a run in several parts; the node then shows the steps."
            ),
        ),
        io.Float.Input(
            "lambda_2_percent",
            default=0.2,
            min=0.0,
            max=1.0,
            step=0.001,
            optional=True,
            tooltip=(
                "lambda_2 as a fraction of sampling, for lambdas_by percent: 0.2 is 10 of 50 steps, and 4 of 20. "
                "Neutral: 0. The paper's value is not known; 0.2 is ours."
            ),
        ),
        io.Float.Input(
            "lambda_3_percent",
            default=0.2,
            min=0.0,
            max=1.0,
            step=0.001,
            optional=True,
            tooltip=(
                "lambda_3 as a fraction of sampling, for lambdas_by percent; not below lambda_2_percent. Neutral: 1. "
                "The paper's value is not known; 0.2 is ours."
            ),
        ),
    ]


def check_lambdas(early_swap: str | None, lambdas: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raises ValueError for settings that contradict each other, where the host knows them all.

    lambdas: the values of the widgets here, None for a linked one. types: the linked inputs.
    """
    if early_swap is not None and None not in lambdas.values() and types.keys().isdisjoint(lambdas):
        check_settings(RetouchSettings(early_swap=early_swap, **lambdas), "layout" in types, "mask" in types)
