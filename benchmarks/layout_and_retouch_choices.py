"""Ways to follow a layout (Layout-and-Retouch, arXiv 2407.09779, section 3.2.2), and prompts of the target, beside the
paper's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..demo import judge
from ..demo.world.captions import neutral_caption
from ..demo.world.subjects import PersonalSubject
from ..patching.features.lending import BANKED
from ..patching.features.trajectory import Trajectory
from ..patching.host.window import SAME_LEVEL
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.mask import SubjectMask
from ..patching.layout_and_retouch.settings import FORK, NONE, QKV_BOTH, RetouchSettings
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import placeholder, word, words
from .grid import Grid, GridPrompt, row
from .layout_and_retouch_comparison import Ablation, Recipe
from .report import Report, mean_interval
from .samples import REPORTED
from .timing import silence
from .tinyland import timed


@dataclass(frozen=True)
class Choice:
    """A row. vanilla: the node's vanilla_model is connected. masked: so is its mask. neutral: the target's prompt."""

    early: str
    vanilla: bool = False
    masked: bool = False
    neutral: bool = False


CHOICES = {
    "none": Choice(NONE),
    "qkv_both": Choice(QKV_BOTH),
    "qkv_both with vanilla_model": Choice(QKV_BOTH, vanilla=True),
    "fork": Choice(FORK),
    "qkv_both with vanilla_model, mask": Choice(QKV_BOTH, vanilla=True, masked=True),
    "fork, mask": Choice(FORK, masked=True),
    "qkv_both with vanilla_model, mask, neutral prompt": Choice(QKV_BOTH, vanilla=True, masked=True, neutral=True),
    "fork, mask, neutral prompt": Choice(FORK, masked=True, neutral=True),
}
NOTES = (
    "The shipped workflow's settings but for the choice: LoRA of strength 0.6, 8 of 25 vanilla steps, lambda_2 9.",
    "distance at lambda_2, distance at the end: of the target's latents to the layout's, relative L2.",
    "identity, prompt, layout: as in the layout-and-retouch benchmark, on four of its subjects.",
)
COMPLETE, QUICK = Grid(REPORTED[:4], prompts=2, seeds=2), Grid(REPORTED[:1], prompts=1, seeds=2)
LAYOUT = "the layout"


@dataclass
class Watch:
    """Keeps the latents of a model's first call at a noise level, and lets the call through."""

    sigma: float
    latents: torch.Tensor | None = None
    likeness_identity: None = None
    """It only watches."""

    def __call__(self, apply: Any, given: Any) -> torch.Tensor:
        level = float(given["timestep"][0])
        if self.latents is None and self.sigma / SAME_LEVEL <= level <= self.sigma * SAME_LEVEL:
            self.latents = given["input"].float().cpu()
        return apply(given["input"], given["timestep"], **given["c"])


@dataclass
class Comparison:
    """Rows for one subject, one prompt and a batch of seeds at a time; keeps the distances to the layout."""

    ablation: Ablation
    choices: dict[str, Choice]
    at_lambda_2: dict[str, list[float]] = field(default_factory=dict)
    at_the_end: dict[str, list[float]] = field(default_factory=dict)

    def cell(self, subject: PersonalSubject, prompt: GridPrompt, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        ablation, recipe = self.ablation, self.ablation.recipe
        full = prompt.text(words(recipe.base, subject))
        neutral = neutral_caption(word(recipe.base, subject), placeholder(recipe.base))
        layout, trajectory = ablation.blended(subject, prompt, seeds)
        assert trajectory is not None
        mask = ablation.mask(subject, layout, full)
        found = {LAYOUT: layout}
        for name, choice in self.choices.items():
            watch = Watch(trajectory.schedule[recipe.lambda_2])
            model = self._patched(subject, trajectory, mask, choice)
            model.set_model_unet_function_wrapper(watch)
            found[name] = ablation.plain(model, neutral if choice.neutral else full, seeds)
            assert watch.latents is not None
            _note(self.at_lambda_2, name, watch.latents[: len(seeds)], trajectory.at(watch.sigma))
            _note(self.at_the_end, name, found[name], layout)
        return found

    def _patched(self, subject: PersonalSubject, trajectory: Trajectory, mask: SubjectMask, choice: Choice):
        ablation, recipe = self.ablation, self.ablation.recipe
        settings = RetouchSettings(
            early_swap=choice.early,
            lambda_2=recipe.lambda_2,
            lambda_3=recipe.lambda_3,
            blocks=recipe.blocks,
            attention=recipe.attention,
            mode=BANKED,
        )
        return retouch(
            ablation.personalized(subject),
            ablation.reference(subject),
            trajectory if choice.early != NONE or choice.masked else None,
            mask if choice.masked else None,
            settings,
            vanilla_model=ablation.model if choice.vanilla else None,
        )


def _note(notes: dict[str, list[float]], name: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Adds the distance of each picture's latents."""
    pairs = zip(found.float().cpu(), wanted.float().cpu(), strict=True)
    notes.setdefault(name, []).extend(float((a - b).norm() / b.norm()) for a, b in pairs)


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    grid = QUICK if quick else COMPLETE
    compared = Comparison(Ablation(weights, generate.Settings(), Recipe()), CHOICES)
    with silence(), timed("choices"):
        images = grid.sample_cells((LAYOUT, *CHOICES), compared.cell, compared.ablation.vae)
    eye = judge.Judge.load()
    rows = [row(name, grid.score(pictures, eye)) for name, pictures in images.items()]
    shape = (len(grid.subjects), grid.prompts, grid.seeds)
    for entry in rows[1:]:
        for when, found in (("lambda_2", compared.at_lambda_2), ("the end", compared.at_the_end)):
            entry[f"distance at {when}"] = mean_interval(np.reshape(found[entry["name"]], shape))
    return Report("layout-and-retouch-choices", rows, {}, {}, NOTES)
