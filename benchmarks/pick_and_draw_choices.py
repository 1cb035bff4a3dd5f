"""Choices that the paper of Pick-and-Draw (arXiv 2401.16762) leaves open, on the bundled model.

Each row changes the shipped workflow in one choice; the rows named literal follow the paper's words together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.samplers
import numpy as np
import torch

from ..demo import judge
from ..demo.world.subjects import PersonalSubject
from ..kernels.pick_and_draw import RAW
from ..patching.features.references import NOISED
from ..patching.host.family import CROSS_INPUT, CROSS_OUTPUT
from ..patching.pick_and_draw.build_palette import PER_LEVEL
from ..patching.pick_and_draw.null_text import NULL_TEXT
from ..patching.pick_and_draw.palette import fill
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import LORA, TEXTUAL_INVERSION
from .grid import Grid, row
from .pick_and_draw_comparison import APPEARANCE, BASELINE, LAYOUT, Guided, Recipe
from .report import Report
from .samples import REPORTED
from .timing import silence
from .tinyland import timed


@dataclass(frozen=True)
class Choice:
    """A row: what is changed in the recipe, the loss that guides, and the base model."""

    changes: dict = field(default_factory=dict)
    losses: str = APPEARANCE
    base: str = TEXTUAL_INVERSION


LITERAL = {"source": NULL_TEXT, "saliency": PER_LEVEL}
CHOICES = {
    "unguided": Choice(losses=BASELINE),
    "shipped": Choice(),
    "features cross_attention_input": Choice({"features": CROSS_INPUT}),
    "features cross_attention_output": Choice({"features": CROSS_OUTPUT}),
    "source noised": Choice({"source": NOISED}),
    "saliency per_level": Choice({"saliency": PER_LEVEL}),
    "decay 0.5": Choice({"decay": 0.5}),
    "step raw, step_size 20": Choice({"step_kind": RAW, "step_size": 20.0}),
    "step raw, step_size 70": Choice({"step_kind": RAW, "step_size": 70.0}),
    "step raw, step_size 20, decay 0.5": Choice({"step_kind": RAW, "step_size": 20.0, "decay": 0.5}),
    "source null_text": Choice({"source": NULL_TEXT}),
    "literal, cross_attention_input": Choice({"features": CROSS_INPUT, **LITERAL}),
    "literal, cross_attention_output": Choice({"features": CROSS_OUTPUT, **LITERAL}),
    "layout: unguided": Choice(losses=BASELINE, base=LORA),
    "layout: shipped, kernel_size 3": Choice(losses=LAYOUT, base=LORA),
    "layout: kernel_size 1": Choice({"kernel_size": 1}, LAYOUT, LORA),
    "layout: kernel_size 5, kernel_width 1": Choice({"kernel_size": 5, "kernel_width": 1.0}, LAYOUT, LORA),
    "layout: step raw, step_size 70": Choice({"step_kind": RAW, "step_size": 70.0}, LAYOUT, LORA),
}

NOTES = (
    "identity, prompt, layout: as in the pick-and-draw benchmark, on three of its subjects. Guided by appearance, with "
    "textual inversion; rows named layout: guided by the layout template, with the LoRA.",
    "time: processor time of a guided run, as a ratio to the unguided run of the same pictures; median over prompts.",
    "preparation: processor time of one reference's features, in unguided runs of one picture; median over subjects. "
    "Rows with the source of a row before reuse its inversions.",
)
COMPLETE, QUICK = Grid(REPORTED[:3], prompts=1, seeds=6), Grid(REPORTED[:1], prompts=1, seeds=2)


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    grid = QUICK if quick else COMPLETE
    guided = Guided(weights, generate.Settings(), Recipe())
    eye, inversions, rows = judge.Judge.load(), {}, []
    plain: dict[str, list[float]] = {}
    with silence():
        for name in list(CHOICES)[:4] if quick else CHOICES:
            choice = CHOICES[name]
            with timed(name):
                chosen = guided.with_recipe(**choice.changes)
                prepared = [_prepare(chosen, choice, subject, grid, inversions) for subject in grid.subjects]
                seconds, images = _sampled(chosen, choice, grid)
            if choice.losses == BASELINE:
                plain[choice.base] = seconds
            unguided = plain[choice.base]
            times = {"time": [float(np.median(np.array(seconds) / np.array(unguided)))]}
            if choice.losses == APPEARANCE:
                times["preparation"] = [float(np.median(prepared)) / float(np.median(unguided)) * grid.seeds]
            rows.append(row(name, grid.score(images, eye)) | times)
            print(rows[-1], flush=True)
    return Report("pick-and-draw-choices", rows, {}, {}, NOTES)


def _seconds(act: Callable[[], object]) -> float:
    before = time.process_time()
    act()
    return time.process_time() - before


def _prepare(guided: Guided, choice: Choice, subject: PersonalSubject, grid: Grid, inversions: dict) -> float:
    """Makes what guides a subject's pictures; returns the seconds that the features of its reference take.

    inversions: those of rows before, by source and subject, which spare a row the time of the same inversion.
    """
    if choice.losses == LAYOUT:
        for prompt, seeds in grid.cells_of(subject):
            guided.template(subject, prompt, seeds)
    if choice.losses != APPEARANCE:
        return 0.0
    model, recipe, settings = guided.base(choice.base, subject), guided.recipe, guided.settings
    palette = guided.palette(choice.base, subject)
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


def _sampled(guided: Guided, choice: Choice, grid: Grid) -> tuple[list[float], np.ndarray]:
    """Seconds of each cell of the grid, and its pictures."""
    seconds: list[float] = []
    losses, base = choice.losses, choice.base

    def cell(subject, prompt, seeds) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        seconds.append(_seconds(lambda: found.update(guided.cell(base, (losses,), subject, prompt, seeds))))
        return found

    return seconds, grid.sample_cells((losses,), cell, guided.vae)[losses]
