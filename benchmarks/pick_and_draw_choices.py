"""Choices that the paper of Pick-and-Draw (arXiv 2401.16762) leaves open, on the bundled model.

Each row changes the shipped workflow in one choice; the rows named literal follow the paper's words together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.samplers
import numpy as np
import torch

from ..demo import judge
from ..demo.world.subjects import PersonalSubject
from ..patching.features.references import NOISED
from ..patching.host.family import CROSS_INPUT, CROSS_OUTPUT
from ..patching.pick_and_draw.build_palette import PER_LEVEL
from ..patching.pick_and_draw.null_text import NULL_TEXT
from ..patching.pick_and_draw.palette import fill
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import TEXTUAL_INVERSION as BASE
from .grid import Grid, row
from .pick_and_draw import REPORTED
from .pick_and_draw_comparison import APPEARANCE, BASELINE, Guided, Recipe
from .report import Report
from .timing import silence
from .tinyland import timed

LITERAL = {"source": NULL_TEXT, "saliency": PER_LEVEL}
CHOICES: dict[str, dict] = {
    "shipped": {},
    "features cross_attention_input": {"features": CROSS_INPUT},
    "features cross_attention_output": {"features": CROSS_OUTPUT},
    "source noised": {"source": NOISED},
    "saliency per_level": {"saliency": PER_LEVEL},
    "decay 0.5": {"decay": 0.5},
    "source null_text": {"source": NULL_TEXT},
    "literal, cross_attention_input": {"features": CROSS_INPUT, **LITERAL},
    "literal, cross_attention_output": {"features": CROSS_OUTPUT, **LITERAL},
}
"""Rows: what is changed in the recipe of the appearance loss."""

NOTES = (
    "identity, prompt, layout: as in the pick-and-draw benchmark, on three of its subjects, with textual inversion.",
    "time: processor time of a guided run, as a ratio to the unguided run of the same pictures; median over prompts.",
    "preparation: processor time of one reference's features, in unguided runs of one picture; median over subjects. "
    "Rows with the source of a row before reuse its inversions.",
)
COMPLETE, QUICK = Grid(REPORTED[:3], prompts=1, seeds=6), Grid(REPORTED[:1], prompts=1, seeds=2)


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    grid = QUICK if quick else COMPLETE
    guided = Guided(weights, generate.Settings(), Recipe())
    eye, inversions = judge.Judge.load(), {}
    with silence():
        plain, images = _sampled(guided, BASELINE, grid)
        rows = [row("unguided", grid.score(images, eye)) | {"time": [1.0], "preparation": [0.0]}]
        for name in list(CHOICES)[:3] if quick else CHOICES:
            with timed(name):
                chosen = guided.with_recipe(**CHOICES[name])
                prepared = [_prepare(chosen, subject, inversions) for subject in grid.subjects]
                seconds, images = _sampled(chosen, APPEARANCE, grid)
            times = {
                "time": [float(np.median(np.array(seconds) / np.array(plain)))],
                "preparation": [float(np.median(prepared)) / float(np.median(plain)) * grid.seeds],
            }
            rows.append(row(name, grid.score(images, eye)) | times)
            print(rows[-1], flush=True)
    return Report("pick-and-draw-choices", rows, {}, {}, NOTES)


def _seconds(act: Callable[[], object]) -> float:
    before = time.process_time()
    act()
    return time.process_time() - before


def _prepare(guided: Guided, subject: PersonalSubject, inversions: dict) -> float:
    """Computes the features of a subject's reference for the guided levels; returns the seconds.

    inversions: those of rows before, by source and subject, which spare a row the time of the same inversion.
    """
    model, recipe, settings = guided.base(BASE, subject), guided.recipe, guided.settings
    palette = guided.palette(BASE, subject)
    schedule = comfy.samplers.KSampler(model, settings.steps, model.load_device, settings.sampler, settings.scheduler)
    sampling: Any = model.get_model_object("model_sampling")
    low, high = (float(sampling.percent_to_sigma(percent)) for percent in reversed(recipe.appearance_window))
    sigmas = [s for s in schedule.sigmas.tolist() if s > 0]
    (item,) = palette.references.items
    key = (recipe.source, subject.name)
    item.inversions.update(inversions.get(key, {}))
    seconds = _seconds(lambda: fill(palette, model, [s for s in sigmas if low < s <= high], sigmas, "bench"))
    inversions[key] = dict(item.inversions)
    return seconds


def _sampled(guided: Guided, losses: str, grid: Grid) -> tuple[list[float], np.ndarray]:
    """Seconds of each cell of the grid, and its pictures."""
    seconds: list[float] = []

    def cell(subject, prompt, seeds) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        seconds.append(_seconds(lambda: found.update(guided.cell(BASE, (losses,), subject, prompt, seeds))))
        return found

    return seconds, grid.sample_cells((losses,), cell, guided.vae)[losses]
