"""Layout-and-Retouch (arXiv 2407.09779): the paper's ablation and tau sweep on Tinyland, and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..demo import judge
from ..demo.world.subjects import SUBJECTS
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import LORA, TEXTUAL_INVERSION
from .chart import beside, lines
from .grid import Grid, contact_sheet, renders, row
from .kept import Kept
from .layout_and_retouch_comparison import Ablation, Recipe
from .layout_and_retouch_costs import memory_ratios, retouch_variants
from .networks import Network, full_size_network, tiny_network
from .report import Report, Target, interval_figures
from .timing import compare, silence
from .tinyland import timed

NAMES = {
    "I": "I personalised",
    "II": "II + step-blended",
    "III": "III II + reference swap only",
    "IV": "IV II + multi-source swap",
    "V": "V IV + adaptive mask",
}
RECIPES = {
    LORA: Recipe(),
    TEXTUAL_INVERSION: Recipe(TEXTUAL_INVERSION, weight=3.0),
}
TAUS = (0, 2, 5, 8, 12, 15, 18)
_COSTS = {"retouch_step_banked_ratio": 1.25, "retouch_step_batched_ratio": 3.1, "whole_ratio": 2.6}
TARGETS = {
    **{f"{network}{name}": Target("at most", most) for network in ("tinyland_", "") for name, most in _COSTS.items()},
    **{
        f"{base}_{name}{end}": Target("more than", 0.0)
        for base in RECIPES
        for end in ("", "_low")
        for name in (
            "prompt_ii_above_i",
            "identity_iii_above_ii",
            "prompt_ii_above_iii",
            "identity_v_above_iv",
            "prompt_v_above_i",
            "layout_v_above_i",
        )
    },
    **{f"{base}_identity_v_above_i": Target("at least", 0.0) for base in RECIPES},
    **{f"{base}_identity_v_above_i_low": Target("at least", -0.02) for base in RECIPES},
}
NOTES = (
    "Settings were tuned on every second subject; the rows are the others. The denoiser computes in "
    f"{generate.PRECISION}.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class and place as "
    "prompted. layout: spread of the subject's center and size over seeds of one prompt. Intervals are 95 % bootstrap "
    "intervals over whole subjects.",
    "tau is 8 of 25 steps, lambda_2 and lambda_3 are 9; the keys and values of the reference's subject are appended "
    "to the target's own. lora: at strength 0.6. textual_inversion: the reference has weight 3.",
    "III is II with the reference in all of its personalized steps; IV and V start from the layout's latents.",
    "less: differences between rows, picture by picture; *_above_* are their means, all positive in the paper, *_low "
    "and *_high the ends of their intervals.",
    "ratio: time to a plain run of the same sampler right before or after it. retouch steps have reference and mask "
    "in every step, as in the paper, and appended, as in the workflow; whole: layout, inversion of a new reference, "
    "the subject's map and mask, and retouch, with the workflow's settings but for the blocks, which are the paper's.",
    "memory_ratio: peak tensor memory of a run relative to a plain run's.",
)


@dataclass(frozen=True)
class Amounts:
    grid: Grid
    sweep: Grid
    seconds: float


_SUBJECTS = tuple(SUBJECTS.values())
TUNED_ON, REPORTED = _SUBJECTS[::2], _SUBJECTS[1::2]
FULL = Amounts(Grid(REPORTED, prompts=10, seeds=8), Grid(REPORTED, prompts=3, seeds=4), 150)
QUICK = Amounts(Grid(REPORTED[:2], prompts=1, seeds=3), Grid(REPORTED[:1], prompts=2, seeds=3), 10)


def run(quick: bool, weights: Path = tinyland.WEIGHTS, recipes: Mapping[str, Recipe] = RECIPES) -> Report:
    amounts = QUICK if quick else FULL
    eye = judge.Judge.load()
    rows, apart, figures = [], [], {}
    shown = {s.name: [*renders(s.training_scenes()[:1])] for s in amounts.grid.subjects}
    with silence():
        for base, recipe in recipes.items():
            with timed(base):
                images = Ablation(weights, generate.Settings(), recipe).sample(
                    tuple(NAMES), amounts.grid, kept_of(recipe, weights)
                )
            scores = {short: amounts.grid.score(pictures, eye) for short, pictures in images.items()}
            for pictures in images.values():
                for subject, some in zip(amounts.grid.subjects, pictures[:, 0, :2], strict=True):
                    shown[subject.name] += [*some]
            rows += [row(f"{NAMES[short]}, {base}", found) for short, found in scores.items()]
            found = differences(scores)
            apart += [row(f"{first} less {second}, {base}", values) for (first, second), values in found.items()]
            figures |= {f"{base}_{name}": value for name, value in signs(found).items()}
        swept = sweep(weights, recipes[LORA], amounts.sweep, eye)
    figures |= costs(quick, weights, amounts.seconds)
    sheet = contact_sheet(
        list(shown.items()), [("reference", 1), *((f"{name}, {base}", 2) for base in recipes for name in NAMES)]
    )
    picture = beside(sheet, lines(swept, TAUS, "tau, vanilla steps"))
    caption = "One prompt per line, the same seeds for every row; below, row II of the LoRA for several tau."
    return Report("layout-and-retouch", rows + apart + swept, figures, TARGETS, NOTES, picture, caption)


def differences(scores: dict[str, dict[str, np.ndarray]]) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Differences between the rows that the paper compares, picture by picture."""
    return {
        (first, second): {metric: values - scores[second][metric] for metric, values in scores[first].items()}
        for first, second in (("II", "I"), ("III", "II"), ("V", "IV"), ("V", "I"))
    }


def signs(apart: dict[tuple[str, str], dict[str, np.ndarray]]) -> dict[str, float]:
    """Differences whose sign the paper states, oriented so that it is positive: the mean and the ends of its
    interval."""
    stated = [
        ("prompt", "II", "I"),
        ("identity", "III", "II"),
        ("identity", "V", "IV"),
        ("prompt", "V", "I"),
        ("identity", "V", "I"),
    ]
    stated += [("layout", "V", "I")]
    found = {
        f"{metric}_{first.lower()}_above_{second.lower()}": apart[first, second][metric]
        for metric, first, second in stated
    }
    found["prompt_ii_above_iii"] = -apart["III", "II"]["prompt"]
    return {key: value for name, values in found.items() for key, value in interval_figures(name, values).items()}


def kept_of(recipe: Recipe, weights: Path) -> Kept:
    return Kept.of(
        "layout-and-retouch",
        "layout_and_retouch_comparison",
        (generate.Settings(), recipe),
        weights,
        ("autoencoder", "denoiser"),
    )


def sweep(weights: Path, recipe: Recipe, grid: Grid, eye: judge.Judge) -> list[dict]:
    """Scores row II of the LoRA for several tau (appendix C.1): more vanilla steps, more of the prompt, less of the
    subject."""
    rows = []
    for tau in TAUS:
        changed = replace(recipe, switch_step=tau)
        images = Ablation(weights, generate.Settings(), changed).sample(("II",), grid, kept_of(changed, weights))["II"]
        rows.append(row(f"tau {tau} of {generate.Settings().steps}", grid.score(images, eye)))
    return rows


def costs(quick: bool, weights: Path, seconds: float) -> dict[str, float]:
    figures, tiny_steps = {}, 10 if quick else generate.Settings().steps
    with silence():
        for network in (tiny_network(weights, tiny_steps), full_size_network(16 if quick else 64, 2 if quick else 5)):
            with timed(f"costs of {network.name}"):
                figures |= costs_of(network, seconds, 1 if quick else 2)
    return figures


def costs_of(network: Network, seconds: float, fewest_rounds: int = 2) -> dict[str, float]:
    """Ratios of time and peak memory to plain sampling, for a retouch step in each mode and for the whole method."""
    found = {
        timing.variant.figure: timing.ratio[0] for timing in compare(retouch_variants(network), seconds, fewest_rounds)
    }
    return {f"{network.prefix}{name}": value for name, value in (found | memory_ratios(network)).items()}
