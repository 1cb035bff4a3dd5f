"""JeDi (arXiv 2407.06187): references, guidance and replacement on Tinyland's joint model, training-free coupling,
cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..demo import judge
from ..demo.world.subjects import SUBJECTS
from ..patching.tinyland import model as tinyland
from . import generate
from .chart import beside, lines
from .grid import Grid, contact_sheet, renders, row
from .jedi_comparison import ROWS, JointSets, Recipe
from .jedi_costs import costs_of
from .kept import Kept
from .networks import full_size_network, tiny_network
from .report import Report, Target, interval_figures
from .timing import silence
from .tinyland import timed

SCALES = (1.0, 2.0, 4.0, 6.0, 8.0)
TARGETS = {
    "joint_n4_ratio": Target("at most", 1.6),
    "joint_n4_memory_ratio": Target("at most", 1.1),
    **{
        f"{name}{end}": Target("more than", 0.0)
        for end in ("", "_low")
        for name in (
            "identity_joint_1_above_text_only",
            "identity_joint_3_above_1",
            "identity_joint_1_above_training_free_uncoupled",
            "identity_text_first_above_joint",
            "prompt_joint_above_text_first",
        )
    },
    "prompt_joint_1_above_text_only": Target("at least", -0.05),
}
NOTES = (
    "None of the subjects, nor one like them, was in the joint model's training. The denoisers compute in "
    f"{generate.PRECISION}.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class and place as "
    "prompted. layout: spread of the subject's center and size over seeds of one prompt. Intervals are 95 % bootstrap "
    "intervals over whole subjects.",
    "Every picture is a set of its own with the references, in one place and nearly one pose. joint_N has N "
    "references, other rows have one. The references' guidance scale is 1.5 times the text's in text_first, half of "
    "it in image_first; 1.5 was chosen after 2.5 had been seen to break shapes on these subjects. Nothing else was "
    "chosen by them.",
    "text_only strengthens the text alone, with the references in both passes; the paper calls the same the ablation "
    "without image guidance (no_image_guidance here, the same pictures). no_replacement: references noised once, then "
    "denoised with the rest.",
    "training_free: the vanilla model with coupled decoder blocks; training_free_uncoupled: the vanilla model alone. "
    "lora: the bundled LoRAs at strength 1, which have seen four pictures of each subject.",
    "joint_nN_ratio: N pictures sampled as one set to N plain pictures of the same sampler, one after the other, in "
    "the same run; *_attention_share: the coupling's share of a set's time; joint_reference_price: extra time of one "
    "more known member per picture. The full-size network is timed over one step.",
)


@dataclass(frozen=True)
class Amounts:
    grid: Grid
    sweep: Grid
    seconds: float


_SUBJECTS = tuple(SUBJECTS.values())
TUNED_ON, REPORTED = _SUBJECTS[::2], _SUBJECTS[1::2]
FULL = Amounts(Grid(REPORTED[:4], prompts=10, seeds=8), Grid(REPORTED[:4], prompts=2, seeds=4), 150)
QUICK = Amounts(Grid(REPORTED[:1], prompts=1, seeds=3), Grid(REPORTED[:1], prompts=1, seeds=2), 10)


def run(quick: bool, weights: Path = tinyland.WEIGHTS, recipe: Recipe | None = None) -> Report:
    amounts, recipe = QUICK if quick else FULL, recipe or Recipe()
    eye, sets = judge.Judge.load(), JointSets(weights, generate.Settings(), recipe)
    kept = Kept.of("jedi", "jedi_comparison", (sets.settings, recipe), weights, ("autoencoder", "denoiser", "joint"))
    scores, sheet = compared(sets, amounts.grid, eye, kept)
    swept = sweep(sets, amounts.sweep, eye)
    figures = signs(scores)
    with silence():
        for network in (tiny_network(weights, 10), full_size_network(16 if quick else 64, 1)):
            with timed(f"costs of {network.name}"):
                figures |= costs_of(network, amounts.seconds)
    picture = beside(sheet, lines(swept, SCALES, "guidance scale"))
    caption = "One prompt per line, the same seeds for every row; below, joint_1 at several guidance scales."
    return Report(
        "jedi", [row(name, found) for name, found in scores.items()] + swept, figures, TARGETS, NOTES, picture, caption
    )


def compared(sets: JointSets, grid: Grid, eye: judge.Judge, kept: Kept | None = None) -> tuple[dict, Image.Image]:
    """Scores by row, and a sheet of the grid's first prompt."""
    shown = {s.name: [*renders(s.training_scenes()[:1])] for s in grid.subjects}
    scores = {}
    with silence():
        for name in ROWS:
            with timed(name):
                pictures = sets.sample(name, grid, kept)
            scores[name] = grid.score(pictures, eye)
            for subject, some in zip(grid.subjects, pictures[:, 0, :2], strict=True):
                shown[subject.name] += [*some]
    scores["no_image_guidance"] = scores["text_only"]
    return scores, contact_sheet(list(shown.items()), [("reference", 1), *((name, 2) for name in ROWS)])


def signs(scores: dict[str, dict[str, np.ndarray]]) -> dict[str, float]:
    """Paired differences between rows whose sign the paper states: the mean and the ends of its interval."""

    def above(metric: str, first: str, second: str) -> np.ndarray:
        return scores[first][metric] - scores[second][metric]

    stated = {
        "identity_joint_1_above_training_free_uncoupled": above("identity", "joint_1", "training_free_uncoupled"),
        "identity_joint_3_above_1": above("identity", "joint_3", "joint_1"),
        "identity_joint_1_above_text_only": above("identity", "joint_1", "text_only"),
        "identity_text_first_above_joint": above("identity", "text_first", "joint_1"),
        "prompt_joint_above_text_first": above("prompt", "joint_1", "text_first"),
        "prompt_joint_1_above_text_only": above("prompt", "joint_1", "text_only"),
        "identity_joint_1_above_no_replacement": above("identity", "joint_1", "no_replacement"),
        "identity_training_free_above_uncoupled": above("identity", "training_free", "training_free_uncoupled"),
        "prompt_joint_3_above_lora": above("prompt", "joint_3", "lora"),
        "layout_joint_3_above_lora": above("layout", "joint_3", "lora"),
    }
    return {key: value for name, found in stated.items() for key, value in interval_figures(name, found).items()}


def sweep(sets: JointSets, grid: Grid, eye: judge.Judge) -> list[dict]:
    """Scores joint_1 at several guidance scales (the paper's figure 11)."""
    rows = []
    for scale in SCALES:
        other = sets.with_settings(replace(sets.settings, cfg=scale))
        rows.append(row(f"guidance scale {scale:g}", grid.score(other.sample("joint_1", grid), eye)))
    return rows
