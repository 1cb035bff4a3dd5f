"""Figures of the JeDi benchmark: what the paper states of its rows, as paired differences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .report import Target, interval_figures, largest_seed_error

Scores = Mapping[str, Mapping[str, np.ndarray]]
"""Scores of each row by metric, [subjects, prompts, seeds] or [subjects, prompts]."""

STATED = {
    "identity_joint_1_above_training_free_uncoupled": ("identity", "joint_1", "training_free_uncoupled"),
    "identity_joint_3_above_1": ("identity", "joint_3", "joint_1"),
    "identity_joint_1_above_text_only": ("identity", "joint_1", "text_only"),
    "identity_text_first_above_joint": ("identity", "text_first", "joint_1"),
    "prompt_joint_above_text_first": ("prompt", "joint_1", "text_first"),
    "identity_joint_above_image_first": ("identity", "joint_1", "image_first"),
    "identity_image_first_above_text_only": ("identity", "image_first", "text_only"),
    "prompt_image_first_above_joint": ("prompt", "image_first", "joint_1"),
    "prompt_joint_1_above_training_free": ("prompt", "joint_1", "training_free"),
}
"""{name: (metric, row, lower row)} of differences that are positive in the paper; the last is ours."""
_OTHERS = {
    "prompt_joint_1_above_text_only": ("prompt", "joint_1", "text_only"),
    "identity_joint_1_above_training_free": ("identity", "joint_1", "training_free"),
    "identity_joint_1_above_no_replacement": ("identity", "joint_1", "no_replacement"),
    "identity_training_free_above_uncoupled": ("identity", "training_free", "training_free_uncoupled"),
    "prompt_joint_3_above_lora": ("prompt", "joint_3", "lora"),
    "layout_joint_3_above_lora": ("layout", "joint_3", "lora"),
}
TARGETS = {
    **{f"{name}{end}": Target("more than", 0.0) for name in STATED for end in ("", "_low")},
    "prompt_joint_1_above_text_only": Target("at least", -0.05),
    "largest_seed_error": Target("at most", 0.01),
}


def signs(scores: Scores) -> dict[str, float]:
    """Paired differences between rows: the mean and the ends of its interval."""
    apart = {
        name: scores[first][metric] - scores[second][metric]
        for name, (metric, first, second) in (STATED | _OTHERS).items()
    }
    figures = {key: value for name, found in apart.items() for key, value in interval_figures(name, found).items()}
    return figures | largest_seed_error(apart[name] for name in STATED)
