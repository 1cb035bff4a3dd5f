"""JeDi (arXiv 2407.06187): references, guidance and replacement on Tinyland's joint model, training-free coupling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ..demo import judge
from ..patching.tinyland import model as tinyland
from . import generate, jedi_data, jedi_figures
from .chart import beside, lines, pareto
from .grid import Grid, contact_sheet, renders, row
from .jedi_comparison import ROWS, JointSets, Recipe
from .jedi_data import kept_of
from .kept import Kept
from .report import Report
from .samples import REPORTED, grid_of
from .sweep import Sweep
from .timing import silence
from .tinyland import timed

SCALES = (1.0, 2.0, 4.0, 6.0, 8.0)
RATIOS = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Guidance scales of the references, as multiples of the text's."""
ORDERS = ("image_first", "text_first")
TARGETS = jedi_figures.TARGETS
NOTES = (
    "None of the subjects, nor one like them, was in the joint model's training. The denoisers compute in "
    f"{generate.PRECISION}.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class and place as "
    "prompted. layout: spread of the subject's center and size over seeds of one prompt. Intervals are 95 % bootstrap "
    "intervals over whole subjects.",
    "copies_1: joint_1 on a joint model that has seen sets in one place and nearly one pose, as videos and multi-view "
    "renders are (size 0 in table 3). place_*: share of pictures in the references' place, which no prompt names.",
    "references at R: both orders of guidance with the references' scale at R times the text's, as in figure 11. "
    "largest_seed_error: standard error that seeds alone leave to the least certain of the differences with a target.",
    "Every picture is a set of its own with the references, in one place and nearly one pose. joint_N has N "
    "references, other rows have one. The references' guidance scale is 1.5 times the text's in text_first, half of "
    "it in image_first; 1.5 was chosen after 2.5 had been seen to break shapes on these subjects. Nothing else was "
    "chosen by them.",
    "text_only strengthens the text alone, with the references in both passes; the paper calls the same the ablation "
    "without image guidance (no_image_guidance here, the same pictures). no_replacement: references noised once, then "
    "denoised with the rest.",
    "training_free: the vanilla model with coupled decoder blocks; training_free_uncoupled: the vanilla model alone. "
    "lora: the bundled LoRAs at strength 1, which have seen four pictures of each subject.",
)


@dataclass(frozen=True)
class Amounts:
    grid: Grid
    sweep: Grid


FULL = Amounts(grid_of(), grid_of(96))
QUICK = Amounts(Grid(REPORTED[:1], prompts=1, seeds=3), Grid(REPORTED[:1], prompts=1, seeds=2))


def run(quick: bool, weights: Path = tinyland.WEIGHTS, recipe: Recipe | None = None) -> Report:
    amounts, recipe = QUICK if quick else FULL, recipe or Recipe()
    eye, sets = judge.Judge.load(), JointSets(weights, generate.Settings(), recipe)
    scores, sheet = compared(sets, amounts.grid, eye, kept_of(sets))
    swept, balanced = sweep(sets, amounts.sweep, eye), ratios(sets, amounts.sweep, eye)
    others, lacking = jedi_data.trained_on_others(weights)
    jedi_data.say(lacking)
    for name in others:
        with silence(), timed(name):
            scores[name] = amounts.grid.score(jedi_data.sampled(sets, name, amounts.grid), eye)
    figures = jedi_figures.signs(scores) | jedi_data.figures_of_others(sets, amounts.grid, eye, scores)
    targets = TARGETS | {name: target for name, target in jedi_figures.OF_DATA.items() if name in figures}
    picture = beside(beside(sheet, lines(swept, SCALES, "guidance scale")), figure_11(balanced))
    caption = (
        "One prompt per line, the same seeds for every row; below, joint_1 at several guidance scales, and identity "
        f"against prompt with the references' scale at {RATIOS[0]:g} to {RATIOS[-1]:g} times the text's."
    )
    rows = [row(name, found) for name, found in scores.items()] + swept
    rows += [entry for entries in balanced.values() for entry in entries]
    return Report("jedi", rows, figures, targets, (*NOTES, *lacking), picture, caption)


def sweeps(quick: bool, weights: Path = tinyland.WEIGHTS) -> dict[str, Sweep]:
    """All that several processes can draw, by the names of the rows."""
    amounts, sets = QUICK if quick else FULL, JointSets(weights, generate.Settings(), Recipe())
    names = (*ROWS, *jedi_data.trained_on_others(weights)[0])
    found = {name: sets.sweep(name, amounts.grid, kept_of(sets, name)) for name in names}
    for scale in SCALES:
        other = sets.with_settings(replace(sets.settings, cfg=scale))
        found[f"guidance scale {scale:g}"] = other.sweep("joint_1", amounts.sweep, kept_of(other))
    for order in ORDERS:
        for ratio in RATIOS:
            other = sets.with_recipe(**{order: ratio})
            found[f"{order}, references at {ratio:g}"] = other.sweep(order, amounts.sweep, kept_of(other))
    return found


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


def sweep(sets: JointSets, grid: Grid, eye: judge.Judge) -> list[dict]:
    """Scores joint_1 at several guidance scales."""
    rows = []
    for scale in SCALES:
        other = sets.with_settings(replace(sets.settings, cfg=scale))
        rows.append(row(f"guidance scale {scale:g}", grid.score(other.sample("joint_1", grid, kept_of(other)), eye)))
    return rows


def ratios(sets: JointSets, grid: Grid, eye: judge.Judge) -> dict[str, list[dict]]:
    """Scores both orders of guidance over the ratio of the references' scale to the text's (the paper's figure 11)."""
    found = {}
    for order in ORDERS:
        found[order] = []
        for ratio in RATIOS:
            other = sets.with_recipe(**{order: ratio})
            scores = grid.score(other.sample(order, grid, kept_of(other)), eye)
            found[order].append(row(f"{order}, references at {ratio:g}", scores))
    return found


def figure_11(balanced: dict[str, list[dict]]) -> Image.Image:
    """Draws identity against prompt, one line per order of guidance."""
    paths = {order: [(entry["prompt"][0], entry["identity"][0]) for entry in rows] for order, rows in balanced.items()}
    return pareto(paths, ("prompt", "identity"), "the references' guidance, from weak to strong")
