"""The signs that the papers state, with other samplers and step counts, and pictures with other thread counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..demo import judge
from ..demo.world.subjects import PersonalSubject
from ..patching.tinyland import model as tinyland
from . import generate, jedi_figures
from .bases import LORA, TEXTUAL_INVERSION, VANILLA
from .grid import Grid, renders
from .jedi_comparison import JointSets
from .jedi_comparison import Recipe as Joining
from .kept import Kept
from .layout_and_retouch import NAMES, TUNED
from .layout_and_retouch_comparison import DEFAULT_STEPS, Ablation
from .layout_and_retouch_figures import differences, stated
from .pick_and_draw import ROWS, SIGNS, gains
from .pick_and_draw_comparison import BOTH, Guided
from .pick_and_draw_comparison import Recipe as Guidance
from .report import Report, Target, interval_figures
from .samples import REPORTED, grid_of
from .sweep import Sweep
from .timing import silence
from .tinyland import timed

DEFAULT = ("euler", DEFAULT_STEPS)
SAMPLERS = (DEFAULT, ("euler", 15), ("euler", 50), ("dpmpp_2m", 15), ("dpmpp_2m", 50))
THREADS = (1, 2, 4)
RETOUCHED_BASES = (LORA, TEXTUAL_INVERSION)
GUIDED_BASES = (LORA, TEXTUAL_INVERSION, VANILLA)
SETS = ("text_only", "joint_1", "joint_3", "image_first", "text_first")
METHODS = ("plain", "layout-and-retouch", "pick-and-draw", "jedi")
TARGETS = {
    "same_signs": Target("at least", 1.0),
    **{f"threads_{count}_identity_difference": Target("at most", 0.01) for count in THREADS[1:]},
}
NOTES = (
    "Rows: differences that the papers state, oriented so that they are positive there, with 95 % bootstrap intervals "
    "over whole subjects and the prompts within. Steps of Layout-and-Retouch are scaled with the number of steps.",
    f"same_signs: share of them whose mean has the sign of {DEFAULT[0]}, {DEFAULT[1]} steps, among those whose "
    "interval there has one sign.",
    "threads_N: pictures of the base and of each method with N threads beside those with one, of the same process: "
    "mean and largest difference of a channel, of 255; share of equal pictures; and the mean difference of identity. "
    f"The denoiser computes in {generate.PRECISION}; sums depend on their order.",
)


@dataclass(frozen=True)
class Amounts:
    """grid: of the signs. pictures: seeds of the comparison of thread counts, on one subject."""

    grid: Grid
    pictures: int


FULL = Amounts(grid_of(96), 8)
QUICK = Amounts(Grid(REPORTED[:1], prompts=1, seeds=2), 2)
Stated = dict[str, np.ndarray]
"""Differences by name, [subjects, prompts, seeds] or [subjects, prompts]."""


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    amounts, eye = QUICK if quick else FULL, judge.Judge.load()
    found = {}
    with silence():
        for settings in _settings(quick):
            with timed(f"{settings.sampler}, {settings.steps} steps"):
                found[settings.sampler, settings.steps] = signs(weights, settings, amounts.grid, eye)
        with timed("threads"):
            threads = thread_figures(weights, amounts.grid.subjects[0], amounts.pictures, eye)
    rows, figures = [], {}
    for (sampler, steps), apart in found.items():
        for name, values in apart.items():
            made = interval_figures(f"{sampler}_{steps}_{name}", values)
            rows.append({"name": f"{sampler}, {steps} steps: {name}", "difference": list(made.values())})
            figures |= made
    return Report("robustness", rows, figures | {"same_signs": same_signs(figures)} | threads, TARGETS, NOTES)


def same_signs(figures: Mapping[str, float]) -> float | None:
    """Share of differences with the default's sign, among those whose interval is clear of zero there.

    None where no interval is.
    """
    first = f"{DEFAULT[0]}_{DEFAULT[1]}_"
    same = []
    for name, low in figures.items():
        if not (name.startswith(first) and name.endswith("_low")):
            continue
        sign = name.removeprefix(first).removesuffix("_low")
        if low * figures[f"{first}{sign}_high"] > 0:
            others = (f"{sampler}_{steps}_{sign}" for sampler, steps in SAMPLERS if (sampler, steps) != DEFAULT)
            same += [figures[other] * figures[f"{first}{sign}"] > 0 for other in others if other in figures]
    return sum(same) / len(same) if same else None


def signs(weights: Path, settings: generate.Settings, grid: Grid, eye: judge.Judge) -> Stated:
    """Stated differences of all three papers at the sampler's settings."""
    return {
        f"{paper}_{name}": values
        for paper, of in (("retouch", of_retouch), ("guidance", of_guidance), ("joint", of_sets))
        for name, values in of(weights, settings, grid, eye).items()
    }


def of_retouch(weights: Path, settings: generate.Settings, grid: Grid, eye: judge.Judge) -> Stated:
    """Layout-and-Retouch, on both bases."""
    found = {}
    for base in RETOUCHED_BASES:
        ablation, kept = _retouched(base, weights, settings)
        images = ablation.sample(tuple(NAMES), grid, kept)
        apart = differences({name: grid.score(pictures, eye) for name, pictures in images.items()})
        found |= {f"{base}_{name}": values for name, values in stated(apart).items()}
    return found


def of_guidance(weights: Path, settings: generate.Settings, grid: Grid, eye: judge.Judge) -> Stated:
    """Pick-and-Draw, on the bases that need no training of their own."""
    guided, kept = _guided(weights, settings)
    scores = {}
    for base in GUIDED_BASES:
        images = guided.sample(base, ROWS, grid, kept)
        scores |= {(base, name): grid.score(pictures, eye) for name, pictures in images.items()}
    gained = gains(scores)
    chosen = [key for key in SIGNS if key[0] in GUIDED_BASES]
    return {f"{base}_{name}_{metric}_gain": gained[base, name][metric] for base, name, metric in chosen}


def of_sets(weights: Path, settings: generate.Settings, grid: Grid, eye: judge.Judge) -> Stated:
    """JeDi's order of guidance, and more references."""
    sets, kept = _coupled(weights, settings)
    scores = {name: grid.score(sets.sample(name, grid, kept), eye) for name in SETS}
    return {
        name: scores[first][metric] - scores[second][metric]
        for name, (metric, first, second) in jedi_figures.STATED.items()
        if first in scores and second in scores
    }


def sweeps(quick: bool, weights: Path = tinyland.WEIGHTS) -> dict[str, Sweep]:
    """All that several processes can draw; pictures with other thread counts are not among it."""
    grid, found = (QUICK if quick else FULL).grid, {}
    for settings in _settings(quick):
        named = f"{settings.sampler}, {settings.steps} steps"
        for base in RETOUCHED_BASES:
            ablation, kept = _retouched(base, weights, settings)
            found[f"{named}: retouch {base}"] = ablation.sweep(tuple(NAMES), grid, kept)
        guided, kept = _guided(weights, settings)
        found |= {f"{named}: guidance {base}": guided.sweep(base, ROWS, grid, kept) for base in GUIDED_BASES}
        sets, kept = _coupled(weights, settings)
        found |= {f"{named}: {name}": sets.sweep(name, grid, kept) for name in SETS}
    return found


def _settings(quick: bool) -> list[generate.Settings]:
    plain = generate.Settings()
    return [replace(plain, sampler=sampler, steps=steps) for sampler, steps in (SAMPLERS[:2] if quick else SAMPLERS)]


def _retouched(base: str, weights: Path, settings: generate.Settings) -> tuple[Ablation, Kept]:
    scaled = TUNED[base].at_steps(settings.steps)
    return Ablation(weights, settings, scaled), _kept("layout_and_retouch_comparison", (settings, scaled), weights)


def _guided(weights: Path, settings: generate.Settings) -> tuple[Guided, Kept]:
    guided = Guided(weights, settings, Guidance())
    return guided, _kept("pick_and_draw_comparison", (settings, guided.recipe), weights)


def _coupled(weights: Path, settings: generate.Settings) -> tuple[JointSets, Kept]:
    sets = JointSets(weights, settings, Joining())
    return sets, _kept("jedi_comparison", (settings, sets.recipe), weights, ("autoencoder", "denoiser", "joint"))


def _kept(module: str, settings: object, weights: Path, parts: tuple[str, ...] = ("autoencoder", "denoiser")) -> Kept:
    return Kept.of("robustness", module, settings, weights, parts)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_figures(weights: Path, subject: PersonalSubject, count: int, eye: judge.Judge) -> dict[str, float]:
    """Differences of pictures with several threads to those with one."""
    made = {}
    for number in THREADS:
        with threads(number):
            made[number] = drawn(weights, subject, count)
    reference = eye.look(renders(subject.training_scenes()))
    figures = {}
    for number in THREADS[1:]:
        apart = []
        for method in METHODS:
            one, other = made[THREADS[0]][method], made[number][method]
            difference = np.abs(one.astype(int) - other)
            key = f"threads_{number}_{method.replace('-', '_')}"
            figures[f"{key}_mean_difference"] = float(difference.mean())
            figures[f"{key}_largest_difference"] = float(difference.max())
            figures[f"{key}_equal"] = float((difference.max((1, 2, 3)) == 0).mean())
            apart.append(judge.identity(eye.look(one), reference) - judge.identity(eye.look(other), reference))
        figures[f"threads_{number}_identity_difference"] = float(np.abs(np.concatenate(apart)).mean())
    return figures


def drawn(weights: Path, subject: PersonalSubject, count: int) -> dict[str, np.ndarray]:
    """Pictures [count, size, size, 3] uint8 of the base and of each method, with nothing kept from earlier."""
    settings, grid = generate.Settings(), Grid((subject,), 1, count)
    ((where, seeds),) = grid.cells_of(subject)
    ablation = Ablation(weights, settings, TUNED[LORA].at_steps(settings.steps))
    cell = ablation.cell(("I", "V"), subject, where, seeds)
    guided = Guided(weights, settings, Guidance()).cell(LORA, (BOTH,), subject, where, seeds)
    latents: Sequence[torch.Tensor] = (
        cell["I"],
        cell["V"],
        guided[BOTH],
        JointSets(weights, settings, Joining()).latents("joint_3", subject, where, seeds),
    )
    return {method: generate.decode(ablation.vae, made) for method, made in zip(METHODS, latents, strict=True)}
