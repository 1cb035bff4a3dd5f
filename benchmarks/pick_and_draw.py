"""Pick-and-Draw (arXiv 2401.16762): both losses on four base models, the directions of the distance, and their cost."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..demo import judge
from ..demo.world.subjects import SUBJECTS, PersonalSubject
from ..patching.tinyland import model as tinyland
from . import generate, pick_and_draw_costs
from .bases import FULL, LORA, TEXTUAL_INVERSION, VANILLA
from .grid import Grid, contact_sheet, renders, row
from .kept import Kept, cache_folder, code_of, sources_of
from .networks import full_size_network, tiny_network
from .pick_and_draw_comparison import APPEARANCE, BASELINE, BOTH, LAYOUT, Guided, Recipe
from .report import Report, Target, interval_figures, largest_seed_error
from .samples import REPORTED, grid_of
from .timing import silence
from .tinyland import timed
from .uremd_costs import SIZES, uremd_costs

BASES = (LORA, TEXTUAL_INVERSION, FULL, VANILLA)
ROWS = (BASELINE, APPEARANCE, LAYOUT, BOTH)
OTHER_DIRECTIONS = ("ref_to_gen", "max")
_PERSONALIZED = (LORA, TEXTUAL_INVERSION, FULL)
SIGNS = {
    **{(base, APPEARANCE, "identity"): "more than" for base in (*_PERSONALIZED, VANILLA)},
    **{(base, LAYOUT, "layout"): "more than" for base in _PERSONALIZED},
    **{(base, BOTH, metric): "more than" for base in _PERSONALIZED for metric in ("prompt", "layout")},
    **{(base, BOTH, "identity"): "at least" for base in _PERSONALIZED},
}
_ENDS = ("", "_low")
TARGETS = {
    "guided_step_ratio": Target("at most", 3.0),
    "guided_every_second_ratio": Target("at most", 2.0),
    "guided_extra_memory_ratio": Target("at most", 1.0),
    "uremd_memory_ratio_4096": Target("at least", 5.0),
    **{f"uremd_matmul_ratio_{tokens}": Target("at most", 2.0) for tokens in SIZES},
    "uremd_speedup_gpu": Target("at least", 3.0),
    **{
        f"{base}_{row}_{metric}_gain{end}": Target(sense, 0.0)
        for (base, row, metric), sense in SIGNS.items()
        for end in _ENDS
    },
    **{f"spread_gen_to_ref_above_{d}{end}": Target("more than", 0.0) for d in OTHER_DIRECTIONS for end in _ENDS},
    f"{VANILLA}_{APPEARANCE}_identity_gain": Target("at least", 0.05),
    "largest_seed_error": Target("at most", 0.01),
}
NOTES = (
    "Settings were tuned on eight subjects; the rows are the other sixteen. The denoiser computes in "
    f"{generate.PRECISION}.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class and place as "
    "prompted. layout: spread of the subject's center and size over seeds of one prompt. Intervals are 95 % bootstrap "
    "intervals over whole subjects.",
    "full: every weight of the U-Net tuned on the four references; vanilla names the class alone, nothing is "
    "personalized.",
    "gain: a row less the same base unguided, picture by picture; *_gain are the means, *_low and *_high the ends "
    "of their intervals. largest_seed_error: standard error that seeds alone leave to the least certain gain with a "
    "target. spread_, identity_ and prompt_gen_to_ref_above_*: lora/appearance less the same with another direction of "
    "the distance; max is the two-sided one.",
    "guided_step_ratio: a run whose every step is guided by both losses to a plain run of the same sampler right "
    "before or after it; palette from the decoder's middle resolution, maps from all of its resolutions but the "
    "finest, before which a gradient pass stops; all_maps: with those of every layer, as in the paper; "
    "guided_whole_ratio: template, inversion and features of a new reference, and a run guided with the nodes' "
    "default windows and blocks.",
    "guided_extra_memory_ratio: extra peak tensor memory of both losses relative to a plain run's peak.",
)


@dataclass(frozen=True)
class Amounts:
    grid: Grid
    seconds: float
    tuning_steps: int


COMPLETE = Amounts(grid_of(), 150, 300)
QUICK = Amounts(Grid(REPORTED[:1], prompts=1, seeds=3), 8, 20)


def run(quick: bool, weights: Path = tinyland.WEIGHTS, recipe: Recipe | None = None) -> Report:
    amounts = QUICK if quick else COMPLETE
    recipe = recipe or Recipe()
    guided = Guided(weights, generate.Settings(), recipe, fine_tuned(weights, amounts.tuning_steps))
    eye = judge.Judge.load()
    # This takes hours on a CPU, so each subject's pictures are cached.
    kept = Kept.of(
        "pick-and-draw",
        "pick_and_draw_comparison",
        (guided.settings, recipe, amounts.tuning_steps),
        weights,
        ("autoencoder", "denoiser"),
    )
    scores, sheet = compared(guided, amounts.grid, eye, kept)
    rows = [row(f"{base}/{name}", found) for (base, name), found in scores.items()]
    turned, spreads = directions(guided, amounts.grid, eye, scores[LORA, APPEARANCE], kept)
    gained = gains(scores)
    stated = [gained[base, name][metric] for base, name, metric in SIGNS]
    figures: dict[str, float | None] = {**means_of(gained), **spreads, **largest_seed_error(stated)}
    with silence():
        for network in (tiny_network(weights, 10), full_size_network(16 if quick else 64, 2 if quick else 5)):
            with timed(f"costs of {network.name}"):
                figures |= pick_and_draw_costs.times(network, amounts.seconds, 1 if quick else 2)
                figures |= pick_and_draw_costs.memory(network)
    with timed("costs of the distance"):
        figures |= uremd_costs(quick)
    caption = "One prompt per line, the same seeds for every row."
    return Report(
        "pick-and-draw",
        rows + turned + [row(f"gain of {base}/{name}", found) for (base, name), found in gained.items()],
        figures,
        TARGETS,
        NOTES,
        sheet,
        caption,
    )


def compared(guided: Guided, grid: Grid, eye: judge.Judge, kept: Kept | None = None) -> tuple[dict, Image.Image]:
    """Scores by base and row, and a sheet of the grid's first prompt."""
    scores, lines = {}, {s.name: [*renders(s.training_scenes()[:1])] for s in grid.subjects}
    with silence():
        for base in BASES:
            with timed(base):
                images = guided.sample(base, ROWS, grid, kept)
            for name, pictures in images.items():
                scores[base, name] = grid.score(pictures, eye)
                for subject, shown in zip(grid.subjects, pictures[:, 0, :2], strict=True):
                    lines[subject.name] += [*shown]
    headings = [("reference", 1), *((f"{base}/{name}", 2) for base in BASES for name in ROWS)]
    return scores, contact_sheet(list(lines.items()), headings)


def gains(scores: dict) -> dict:
    """Differences of each guided row to its base's unguided one, as scores by base and row."""
    return {
        (base, name): {metric: values - scores[base, BASELINE][metric] for metric, values in found.items()}
        for (base, name), found in scores.items()
        if name != BASELINE
    }


def means_of(gained: dict) -> dict[str, float]:
    return {
        key: value
        for (base, name), found in gained.items()
        for m, values in found.items()
        for key, value in interval_figures(f"{base}_{name}_{m}_gain", values).items()
    }


def directions(
    guided: Guided, grid: Grid, eye: judge.Judge, shipped: dict, kept: Kept | None = None
) -> tuple[list[dict], dict[str, float]]:
    """Scores lora/appearance with each direction of the distance; shipped: its scores with the recipe's own."""
    found = {guided.recipe.direction: shipped}
    with silence(), timed("directions"):
        for direction in OTHER_DIRECTIONS:
            images = guided.with_recipe(direction=direction).sample(LORA, (APPEARANCE,), grid, kept)[APPEARANCE]
            found[direction] = grid.score(images, eye)
    rows = [row(f"lora/appearance, {direction}", scores) for direction, scores in found.items()]
    names = {"spread": "layout", "identity": "identity", "prompt": "prompt"}
    figures = (
        interval_figures(f"{name}_gen_to_ref_above_{d}", found["gen_to_ref"][metric] - found[d][metric])
        for name, metric in names.items()
        for d in OTHER_DIRECTIONS
    )
    return rows, {key: value for each in figures for key, value in each.items()}


def fine_tuned(weights: Path, steps: int) -> Callable[[str], Path]:
    """Makes the function from a subject's name to its full fine-tune, which is trained if missing: it is too large to
    bundle."""
    state = hashlib.sha256((weights / "denoiser.safetensors").read_bytes())
    for path in sorted(sources_of(Path(__file__).resolve().parents[1] / "demo" / "training" / "personal.py")):
        state.update(code_of(path).encode())
    folder = cache_folder() / "training" / f"full-{state.hexdigest()[:8]}-{steps}"

    def path_of(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            _train(SUBJECTS[name], steps, folder)
        return path

    return path_of


def _train(subject: PersonalSubject, steps: int, folder: Path) -> None:
    from ..demo.training import personal
    from ..demo.training.command import load_autoencoder

    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode(False):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        personal.train_full(subject.name, steps, load_autoencoder(device), device, folder)
    print(f"full fine-tune of {subject.name}: {time.monotonic() - started:.0f} s", flush=True)
