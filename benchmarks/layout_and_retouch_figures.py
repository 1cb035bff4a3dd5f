"""Figures of the Layout-and-Retouch benchmark: what the paper states of its rows, as paired differences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .layout_and_retouch_comparison import MASKS
from .report import Target, interval_figures

Scores = Mapping[str, Mapping[str, np.ndarray]]
"""Scores of each row by metric, [subjects, prompts, seeds] or [subjects, prompts]."""

PAIRS = (("II", "I"), ("III", "II"), ("V", "IV"), ("V", "I"))
_STATED = (
    ("prompt", "II", "I"),
    ("identity", "III", "II"),
    ("identity", "V", "IV"),
    ("prompt", "V", "I"),
    ("identity", "V", "I"),
    ("layout", "V", "I"),
)
_POSITIVE = (
    "prompt_ii_above_i",
    "identity_iii_above_ii",
    "identity_v_above_iv",
    "prompt_v_above_i",
    "layout_v_above_i",
)
_OF_THE_PAPER = "prompt_ii_above_iii"
"""Positive at the paper's settings alone: an unmasked swap of all keys drops the prompt; appended keys need not."""
_ENDS = ("", "_low")


def differences(scores: Scores) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Differences between the rows that the paper compares, picture by picture."""
    return {
        (first, second): {metric: values - scores[second][metric] for metric, values in scores[first].items()}
        for first, second in PAIRS
    }


def stated(apart: Mapping[tuple[str, str], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Differences whose sign the paper states, by the names of their figures, oriented so that it is positive."""
    found = {
        f"{metric}_{first.lower()}_above_{second.lower()}": apart[first, second][metric]
        for metric, first, second in _STATED
    }
    return found | {_OF_THE_PAPER: -apart["III", "II"]["prompt"]}


def signs(apart: Mapping[tuple[str, str], Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Figures of what the paper states: the mean and the ends of its interval."""
    return {k: value for name, values in stated(apart).items() for k, value in interval_figures(name, values).items()}


def mask_figures(scores: Scores) -> dict[str, float]:
    """Differences of the mask of both sources to each source alone (appendix C.2)."""
    found = {}
    for other in MASKS:
        if other != "V_both":
            for metric in ("identity", "prompt"):
                values = scores["V_both"][metric] - scores[other][metric]
                found |= interval_figures(f"{metric}_v_both_above_{other.lower()}", values)
    return found


def targets(tuned: tuple[str, ...], literal: tuple[str, ...]) -> dict[str, Target]:
    """Targets by figure. tuned, literal: names of the recipes with tuned settings and with the paper's."""
    every = (*tuned, *literal)
    positive = [(name, sign) for name in every for sign in _POSITIVE] + [(name, _OF_THE_PAPER) for name in literal]
    return {
        **{f"{name}_{sign}{end}": Target("more than", 0.0) for name, sign in positive for end in _ENDS},
        **{f"{name}_identity_v_above_i": Target("at least", 0.0) for name in every},
        **{f"{name}_identity_v_above_i_low": Target("at least", -0.02) for name in every},
        "largest_seed_error": Target("at most", 0.01),
    }
