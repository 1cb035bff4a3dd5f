"""RAM that a banked reference takes at the size of SDXL, beside what saving it costs in likeness on Tinyland."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.supported_models
import torch

from ..demo import judge
from ..demo.world.subjects import PersonalSubject
from ..patching.features.lending import BANKED
from ..patching.features.read_levels import ReadLevels
from ..patching.features.room import features_size
from ..patching.host.blocks import layers_of, parse
from ..patching.host.families import discover, preset
from ..patching.host.family import LATE
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.settings import FORK, RetouchSettings
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import words
from .grid import Grid, GridPrompt, row
from .kept import Kept
from .layout_and_retouch_comparison import Ablation, Recipe
from .networks import SDXL_CONFIG, Network, random_network
from .report import Report, Target, interval_figures, mean_interval
from .samples import REPORTED
from .timing import silence
from .tinyland import timed

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

GB = 10**9
STEPS, LATE_LEVELS = 30, 24
"""Steps of the SDXL run, and those after lambda_2 at its default of a fifth."""
_SIDE = 128


@dataclass(frozen=True)
class Saving:
    """A row. every: as in `Lending`. masked: the subject alone is kept. half: of the blocks, the coarser ones."""

    every: int = 1
    masked: bool = True
    half: bool = False


WHOLE, WHOLE_4 = "the whole picture, each level", "the whole picture, every 4th level"
EACH, EVERY_2 = "the subject, each level", "the subject, every 2nd level"
SAVINGS = {
    WHOLE: Saving(masked=False),
    WHOLE_4: Saving(every=4, masked=False),
    EACH: Saving(),
    EVERY_2: Saving(every=2),
    "the subject, every 4th level": Saving(every=4),
    "the subject, every 8th level": Saving(every=8),
    "the subject, half of the blocks": Saving(half=True),
}
TARGETS = {
    "sdxl_subject_gb": Target("at most", 1.5),
    "sdxl_whole_every_4_gb": Target("at most", 1.5),
    "identity_every_2_above_each_low": Target("at least", -0.02),
    "identity_whole_every_4_above_each_low": Target("at least", -0.02),
}
NOTES = (
    "Row V of the layout-and-retouch benchmark with its settings, on the bundled LoRAs: layout, reference and adaptive "
    "mask. Every row starts from the same layouts and noise.",
    f"SDXL GB: features of one reference of 1024 pixels in half precision, for {STEPS} steps of which {LATE_LEVELS} "
    "come after lambda_2, with the preset paper's blocks and both sides of guidance. Its subject covers a quarter.",
    "identity less each level: paired difference to the row that reads the subject at each level. every Nth level: "
    "reference_every N, so that N levels share the features of the first of them.",
    f"sdxl_subject_gb: of '{EACH}', as the nodes' defaults are. sdxl_whole_every_4_gb: of '{WHOLE_4}'.",
    f"identity_every_2_above_each: difference between '{EVERY_2}' and '{EACH}', with the ends of its interval; "
    "identity_whole_every_4_above_each: between the two rows of the whole picture.",
)
COMPLETE, QUICK = Grid(REPORTED, prompts=3, seeds=3), Grid(REPORTED[:1], prompts=1, seeds=2)


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    """Draws and measures all rows. quick: two pictures a row."""
    grid, settings = QUICK if quick else COMPLETE, generate.Settings()
    ablations = {masked: Ablation(weights, settings, Recipe(masked=masked)) for masked in (True, False)}
    kept = Kept.of(
        "reference-memory", "reference_memory", (settings, Recipe(), SAVINGS), weights, ("autoencoder", "denoiser")
    )
    with silence(), timed("rows"):
        images = grid.sample_cells([*SAVINGS], partial(cell, ablations), ablations[True].vae, kept)
    eye = judge.Judge.load()
    scores = {name: grid.score(pictures, eye) for name, pictures in images.items()}
    with silence():
        model = network().personalized
        needed = {name: gigabytes(saving, model) for name, saving in SAVINGS.items()}
    rows = []
    for name, found in scores.items():
        less = mean_interval(found["identity"] - scores[EACH]["identity"])
        rows.append(row(name, found) | {"identity less each level": less, "SDXL GB": [needed[name]]})
    figures = {"sdxl_subject_gb": needed[EACH], "sdxl_whole_every_4_gb": needed[WHOLE_4]}
    for name, (saved, each) in {"every_2": (EVERY_2, EACH), "whole_every_4": (WHOLE_4, WHOLE)}.items():
        difference = scores[saved]["identity"] - scores[each]["identity"]
        figures |= interval_figures(f"identity_{name}_above_each", difference)
    return Report("reference-memory", rows, figures, TARGETS, NOTES)


def cell(
    ablations: dict[bool, Ablation], subject: PersonalSubject, prompt: GridPrompt, seeds: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Latents of every row, retouched from one layout under one mask."""
    usual = ablations[True]
    recipe = usual.recipe
    full = prompt.text(words(recipe.base, subject))
    layout, trajectory = usual.blended(subject, prompt, seeds, record=recipe.blocks)
    mask = usual.mask(subject, layout, full)
    found = {}
    for name, saving in SAVINGS.items():
        names = recipe.blocks.split(", ")
        settings = RetouchSettings(
            early_swap=FORK,
            lambda_2=recipe.lambda_2,
            lambda_3=recipe.lambda_3,
            blocks=", ".join(_first_half(names) if saving.half else names),
            attention=recipe.attention,
            mode=BANKED,
            reference_every=saving.every,
        )
        lent = ablations[saving.masked].reference(subject)
        patched = retouch(usual.personalized(subject), lent, trajectory, mask, settings)
        found[name] = usual.plain(patched, full, seeds)
    return found


def network(config: dict[str, Any] = SDXL_CONFIG) -> Network:
    """Makes a network of SDXL's shape, whose weights take no memory."""
    return random_network("SDXL", "", config, torch.bfloat16, _SIDE, 1, comfy.supported_models.SDXL, blank=True)


def gigabytes(saving: Saving, model: ModelPatcher) -> float:
    """Gigabytes of one reference's features in a model of SDXL's class, at 1024 pixels."""
    names = preset(model, LATE, "bench")
    blocks = parse(", ".join(_first_half(names) if saving.half else names), discover(model, "bench"), "bench")

    def subject(place: tuple[int, int]) -> torch.Tensor | None:
        return torch.arange(place[0] * place[1] // 4) if saving.masked else None

    size_of_one = features_size(model, (_SIDE, _SIDE), layers_of(blocks), "bench", subject)
    readings = len(ReadLevels.of(range(1, LATE_LEVELS + 1), saving.every).first)
    return 2 * size_of_one * readings / GB


def _first_half(names: Sequence[str]) -> Sequence[str]:
    return names[: len(names) // 2]
