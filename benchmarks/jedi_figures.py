"""Figures of the JeDi benchmark: what the paper states of its rows, as paired differences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..demo import judge
from ..demo.world.scene import PLACES
from .grid import Grid
from .jedi_comparison import COPIES, S3_SETS, S3_TEXT_ONLY
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
_OF_DATA = {
    "identity_copies_above_joint_1": ("identity", COPIES, "joint_1"),
    "prompt_joint_1_above_copies": ("prompt", "joint_1", COPIES),
    "identity_s3_sets_above_its_text_only": ("identity", S3_SETS, S3_TEXT_ONLY),
    "identity_s3_sets_above_training_free_uncoupled": ("identity", S3_SETS, "training_free_uncoupled"),
    "prompt_s3_sets_above_training_free": ("prompt", S3_SETS, "training_free"),
}
"""Table 3: a model of near-copies alone, of size 0, copies the reference and forgets the prompt. Section 3.1: one that
was trained on sets of S3 keeps the subject."""
_OF_BOTH = {
    "identity_joint_1_above_s3_sets": ("identity", "joint_1", S3_SETS),
    "prompt_joint_1_above_s3_sets": ("prompt", "joint_1", S3_SETS),
}
"""Rendered sets beside those of S3, of which nothing is stated."""
_ENDS = ("", "_low")
OF_DATA = {
    **{f"{name}{end}": Target("more than", 0.0) for name in _OF_DATA for end in _ENDS},
    "place_copies_above_joint_1": Target("more than", 0.0),
}
TARGETS = {
    **{f"{name}{end}": Target("more than", 0.0) for name in STATED for end in _ENDS},
    "prompt_joint_1_above_text_only": Target("at least", -0.05),
    "largest_seed_error": Target("at most", 0.01),
}


def signs(scores: Scores) -> dict[str, float]:
    """Paired differences between rows: the mean and the ends of its interval."""
    apart = _apart(STATED | _OTHERS, scores)
    return _with_intervals(apart) | largest_seed_error(apart[name] for name in STATED)


def of_data(scores: Scores) -> dict[str, float]:
    """Paired differences between models of other sets and the rest, as far as both rows are there."""
    there = {name: stated for name, stated in (_OF_DATA | _OF_BOTH).items() if {*stated[1:]} <= {*scores}}
    return _with_intervals(_apart(there, scores))


def _apart(named: Mapping[str, tuple[str, str, str]], scores: Scores) -> dict[str, np.ndarray]:
    return {name: scores[first][metric] - scores[second][metric] for name, (metric, first, second) in named.items()}


def _with_intervals(apart: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {key: value for name, found in apart.items() for key, value in interval_figures(name, found).items()}


def copied_places(grid: Grid, pictures: np.ndarray, eye: judge.Judge) -> np.ndarray:
    """1 where a picture [subjects, prompts, seeds, ...] shows the place of the references, which no prompt names."""
    seen = [eye.look(images.reshape(-1, *images.shape[2:])).place_index for images in pictures]
    own = [PLACES.index(subject.place) for subject in grid.subjects]
    return (np.array(seen) == np.array(own)[:, None]).astype(float).reshape(pictures.shape[:3])
