"""Layout-and-Retouch (arXiv 2407.09779): the paper's ablation and tau sweep on Tinyland."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..demo import judge
from ..demo.launcher.files import digest
from ..patching.evaluation import judge as judge_network
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import CUSTOM_DIFFUSION, LORA, TEXTUAL_INVERSION
from .chart import beside, lines
from .extras import CROSS_ATTENTION, missing, of_subjects
from .grid import Grid, contact_sheet, renders, row
from .kept import Kept
from .layout_and_retouch_comparison import Ablation, Recipe
from .layout_and_retouch_figures import differences, mask_figures, signs, stated, targets
from .report import Report, largest_seed_error
from .samples import REPORTED, grid_of
from .sweep import Sweep
from .timing import silence
from .tinyland import timed

NAMES = {
    "I": "I personalised",
    "II": "II + step-blended",
    "III": "III II + reference swap only",
    "IV": "IV II + multi-source swap",
    "V": "V IV + adaptive mask",
}
MASK_NAMES = {"V_segmenter": "V with the segmenter alone", "V_both": "V with segmenter and attention"}
PAPER = Recipe(
    strength=1.0,
    switch_step=3,
    lambda_2=5,
    lambda_3=5,
    alone_from=3,
    blocks="paper",
    attention="replace",
    threshold=0.1,
    masked=False,
    neutral=True,
)
"""Settings of the paper: 5 of 50 vanilla steps, lambda_2 and lambda_3 of 10, here for 25 steps."""
TUNED = {
    LORA: Recipe(),
    TEXTUAL_INVERSION: Recipe(TEXTUAL_INVERSION, weight=3.0),
    CUSTOM_DIFFUSION: Recipe(CUSTOM_DIFFUSION),
}
LITERAL = {f"{LORA}_paper": PAPER, f"{TEXTUAL_INVERSION}_paper": replace(PAPER, base=TEXTUAL_INVERSION)}
RECIPES = TUNED | LITERAL
TAUS = (0, 2, 5, 8, 12, 15, 18)
TARGETS = targets(tuple(TUNED), tuple(LITERAL))
NOTES = (
    f"Settings were tuned on other subjects than those of the rows. The denoiser computes in {generate.PRECISION}.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class and place as "
    "prompted. layout: spread of the subject's center and size over seeds of one prompt. Intervals are 95 % bootstrap "
    "intervals over whole subjects.",
    "tau is 8 of 25 steps, lambda_2 and lambda_3 are 9; the keys and values of the reference's subject are appended "
    "to the target's own. lora: at strength 0.6. textual_inversion: the reference has weight 3.",
    "custom_diffusion: the text's keys and values tuned alone, beside pictures of the class, as in Custom Diffusion.",
    "*_paper: the paper's settings for 25 steps: tau 3, lambda_2 and lambda_3 5, keys and values of the whole "
    "reference in place of the target's own, in the paper's blocks, the target's prompt neutral, the LoRA at "
    "strength 1. What the paper leaves open is as in the nodes' defaults.",
    "V has the attention map alone; V with the segmenter: the judge's segmentation of the layout image stands for "
    "Segment Anything, alone or with the target's attention of each step, as in the paper (appendix C.2).",
    "III is II with the reference in all of its personalized steps; IV and V start from the layout's latents.",
    "less: differences between rows, picture by picture; *_above_* are their means, all positive in the paper, *_low "
    "and *_high the ends of their intervals. largest_seed_error: standard error that seeds alone leave to the least "
    "certain of them.",
)


@dataclass(frozen=True)
class Amounts:
    grid: Grid
    sweep: Grid


FULL = Amounts(grid_of(), grid_of(96))
QUICK = Amounts(Grid(REPORTED[:1], prompts=1, seeds=3), Grid(REPORTED[:1], prompts=1, seeds=3))


def run(quick: bool, weights: Path = tinyland.WEIGHTS, recipes: Mapping[str, Recipe] = RECIPES) -> Report:
    amounts = QUICK if quick else FULL
    eye = judge.Judge.load()
    rows, apart, masked, figures, measured = [], [], [], {}, []
    notes, drawn = list(NOTES), []
    shown = {s.name: [*renders(s.training_scenes()[:1])] for s in amounts.grid.subjects}
    with silence():
        for base, recipe in recipes.items():
            tuned = tuned_files(recipe, amounts.grid)
            lacking = missing(tuned, CROSS_ATTENTION, weights) if tuned else ""
            if lacking:
                print(lacking, flush=True)
                notes.append(lacking)
                continue
            drawn.append(base)
            ablation = Ablation(weights, generate.Settings(), recipe)
            with timed(base):
                images = ablation.sample(tuple(NAMES), amounts.grid, kept_of(recipe, weights, tuned))
            scores = {short: amounts.grid.score(pictures, eye) for short, pictures in images.items()}
            rows += [row(f"{NAMES[short]}, {base}", found) for short, found in scores.items()]
            found = differences(scores)
            apart += [row(f"{first} less {second}, {base}", values) for (first, second), values in found.items()]
            figures |= {f"{base}_{name}": value for name, value in signs(found).items()}
            measured += stated(found).values()
            if base not in TUNED:
                continue
            for pictures in images.values():
                for subject, some in zip(amounts.grid.subjects, pictures[:, 0, :2], strict=True):
                    shown[subject.name] += [*some]
            with timed(f"masks, {base}"):
                images = ablation.sample(
                    tuple(MASK_NAMES), amounts.grid, kept_of(recipe, weights, tuned, segmented=True)
                )
            scores |= {short: amounts.grid.score(pictures, eye) for short, pictures in images.items()}
            masked += [row(f"{name}, {base}", scores[short]) for short, name in MASK_NAMES.items()]
            figures |= {f"{base}_{name}": value for name, value in mask_figures(scores).items()}
        swept = sweep(weights, recipes[LORA], amounts.sweep, eye)
    figures |= largest_seed_error(measured)
    bases = [base for base in drawn if base in TUNED]
    sheet = contact_sheet(
        list(shown.items()), [("reference", 1), *((f"{name}, {base}", 2) for base in bases for name in NAMES)]
    )
    picture = beside(sheet, lines(swept, TAUS, "tau, vanilla steps"))
    caption = "One prompt per line, the same seeds for every row; below, row II of the LoRA for several tau."
    return Report("layout-and-retouch", rows + masked + apart + swept, figures, TARGETS, tuple(notes), picture, caption)


def sweeps(quick: bool, weights: Path = tinyland.WEIGHTS) -> dict[str, Sweep]:
    """All that several processes can draw."""
    amounts, settings, found = QUICK if quick else FULL, generate.Settings(), {}
    for base, recipe in RECIPES.items():
        tuned = tuned_files(recipe, amounts.grid)
        if tuned and missing(tuned, CROSS_ATTENTION, weights):
            continue
        ablation = Ablation(weights, settings, recipe)
        found[base] = ablation.sweep(tuple(NAMES), amounts.grid, kept_of(recipe, weights, tuned))
        if base in TUNED:
            kept = kept_of(recipe, weights, tuned, segmented=True)
            found[f"masks, {base}"] = ablation.sweep(tuple(MASK_NAMES), amounts.grid, kept)
    for tau in TAUS:
        changed = replace(RECIPES[LORA], switch_step=tau)
        ablation = Ablation(weights, settings, changed)
        found[f"tau {tau}"] = ablation.sweep(("II",), amounts.sweep, kept_of(changed, weights))
    return found


def tuned_files(recipe: Recipe, grid: Grid) -> list[Path]:
    """Files that a recipe needs and the pack does not bundle."""
    return of_subjects([s.name for s in grid.subjects]) if recipe.base == CUSTOM_DIFFUSION else []


def kept_of(recipe: Recipe, weights: Path, tuned: Sequence[Path] = (), segmented: bool = False) -> Kept:
    """Cache of the pictures. tuned: files beside the bundled ones. segmented: of rows that the judge has a hand in."""
    parts = ("autoencoder", "denoiser")
    settings: tuple = (generate.Settings(), recipe)
    if tuned:
        settings += (digest(*tuned),)
    if segmented:
        settings += (digest(judge.network.WEIGHTS, Path(judge.network.__file__), Path(judge_network.__file__)),)
    return Kept.of("layout-and-retouch", "layout_and_retouch_comparison", settings, weights, parts)


def sweep(weights: Path, recipe: Recipe, grid: Grid, eye: judge.Judge) -> list[dict]:
    """Scores row II of the LoRA for several tau (appendix C.1): more vanilla steps, more of the prompt, less of the
    subject."""
    rows = []
    for tau in TAUS:
        changed = replace(recipe, switch_step=tau)
        images = Ablation(weights, generate.Settings(), changed).sample(("II",), grid, kept_of(changed, weights))["II"]
        rows.append(row(f"tau {tau} of {generate.Settings().steps}", grid.score(images, eye)))
    return rows
