"""Joint models of JeDi (arXiv 2407.06187) by what they saw: rendered sets, sets of S3, or near-copies (table 3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors

from ..demo import judge
from ..demo.launcher.files import digest
from ..patching.tinyland import model as tinyland
from . import extras, generate, jedi_figures
from .grid import Grid, contact_sheet, renders, row
from .jedi_comparison import COPIES, S3_SETS, S3_TEXT_ONLY, JointSets, Recipe, s3_joint
from .kept import Kept, cache_folder
from .report import Report, interval_figures
from .samples import REPORTED, grid_of
from .sweep import Sweep
from .timing import silence
from .tinyland import timed

ROWS = ("text_only", "joint_1", "training_free", "training_free_uncoupled")
"""Rows beside those of the models that this benchmark is about, by the bundled joint model and the vanilla model."""
NOTES = (
    "None of the subjects, nor one like them, was in any model's training. The denoisers compute in "
    f"{generate.PRECISION}.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class and place as "
    "prompted. layout: spread of the subject's center and size over seeds of one prompt. Intervals are 95 % bootstrap "
    "intervals over whole subjects.",
    "joint_1: the bundled model, trained on rendered sets. joint, S3 sets: trained on the sets that `run.py s3 make "
    "--demo-model` made, as docs/s3.md describes. Both draw one picture with one reference. text_only strengthens "
    "the text alone, with the reference in both passes.",
    "training_free: the vanilla model with coupled decoder blocks, which draws the collages of the sets; "
    "training_free_uncoupled: the vanilla model alone.",
    "copies_1: a joint model that has seen sets in one place and nearly one pose, as videos and multi-view renders are "
    "(size 0 in table 3). place_*: share of pictures in the references' place, which no prompt names.",
)
FULL, QUICK = grid_of(160), Grid(REPORTED[:1], prompts=1, seeds=2)


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    eye, sets, grid = judge.Judge.load(), JointSets(weights, generate.Settings(), Recipe()), QUICK if quick else FULL
    shown = {subject.name: [*renders(subject.training_scenes()[:1])] for subject in grid.subjects}
    others, lacking = trained_on_others(weights)
    say(lacking)
    if S3_SETS in others:
        others += (S3_TEXT_ONLY,)
    scores = {}
    for name in (*ROWS, *others):
        with silence(), timed(name):
            pictures = sampled(sets, name, grid)
        scores[name] = grid.score(pictures, eye)
        for subject, some in zip(grid.subjects, pictures[:, 0, :2], strict=True):
            shown[subject.name] += [*some]
    figures = figures_of_others(sets, grid, eye, scores)
    return Report(
        "jedi-data",
        [row(name, found) for name, found in scores.items()],
        figures,
        {name: target for name, target in jedi_figures.OF_DATA.items() if name in figures},
        (*NOTES, *_training(weights), *lacking),
        contact_sheet(list(shown.items()), [("reference", 1), *((name, 2) for name in scores)]),
        "One prompt per line, the same seeds for every row.",
    )


def sweeps(quick: bool, weights: Path = tinyland.WEIGHTS) -> dict[str, Sweep]:
    """All that several processes can draw, by the names of the rows."""
    sets, grid = JointSets(weights, generate.Settings(), Recipe()), QUICK if quick else FULL
    others, _ = trained_on_others(weights)
    names = (*ROWS, *others, *((S3_TEXT_ONLY,) if S3_SETS in others else ()))
    return {name: sets.sweep(name, grid, kept_of(sets, name)) for name in names}


def trained_on_others(weights: Path) -> tuple[tuple[str, ...], list[str]]:
    """Rows of joint models of other sets that the cache has, and a sentence for each that it lacks."""
    lacking = extras.missing([extras.copies()], extras.COPIES, weights)
    names, sentences = (() if lacking else (COPIES,)), [lacking] if lacking else []
    if s3_joint().is_file():
        names += (S3_SETS,)
    else:
        sentences.append(
            f"The row '{S3_SETS}' was not drawn: expected {s3_joint().name} in CACHE/{s3_joint().parent.name}, got "
            "none; make sets with `python run.py s3 make FOLDER --demo-model 2000`, and train with `python run.py "
            f"train joint --sets FOLDER --checkpoint tinyland --out CACHE/{s3_joint().parent.name}/{s3_joint().name}`."
        )
    return names, sentences


def _training(weights: Path) -> list[str]:
    """Tells how long the models of rendered sets and of S3's were trained."""
    if not s3_joint().is_file():
        return []
    found = {"joint_1": weights / "joint.safetensors", S3_SETS: s3_joint()}
    return [" ".join(f"{name}: {_steps_of(path)} training steps." for name, path in found.items())]


def _steps_of(path: Path) -> str:
    """Number of training steps that a file states."""
    with safetensors.safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get("steps", "unknown")


def say(sentences: list[str]) -> None:
    for sentence in sentences:
        print(sentence.replace("CACHE", str(cache_folder())), flush=True)


def sampled(sets: JointSets, name: str, grid: Grid) -> np.ndarray:
    """Pictures of a row."""
    return sets.sample(name, grid, kept_of(sets, name))


def figures_of_others(sets: JointSets, grid: Grid, eye: judge.Judge, scores: jedi_figures.Scores) -> dict[str, float]:
    """Paired differences of the rows of other sets, as far as they are in `scores`."""
    figures = jedi_figures.of_data(scores)
    if COPIES in scores:
        places = [jedi_figures.copied_places(grid, sampled(sets, name, grid), eye) for name in (COPIES, "joint_1")]
        figures |= interval_figures("place_copies_above_joint_1", places[0] - places[1])
    return figures


def kept_of(sets: JointSets, name: str = "") -> Kept:
    """Cache of a row's pictures at the sampler's settings; it depends on the file of the row's model."""
    files = {S3_SETS: s3_joint(), S3_TEXT_ONLY: s3_joint(), COPIES: extras.copies()}
    more = (digest(files[name]),) if name in files else ()
    parts = ("autoencoder", "denoiser", "joint")
    return Kept.of("jedi", "jedi_comparison", (sets.settings, sets.recipe, *more), sets.weights, parts)
