"""The methods of the three papers on the demo transformer, a narrow Z-Image network, and the places of references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..demo import judge
from ..demo.training.transformer_subjects import NAMES as PERSONAL
from ..demo.world.subjects import SUBJECTS
from ..patching.features.positions import BESIDE, INDEX, SAME
from ..patching.tinyland import model as tinyland
from ..patching.tinyland import transformer
from . import generate
from .grid import Grid, contact_sheet, renders, row
from .kept import Kept
from .report import Report, Target, interval_figures
from .sweep import Sweep
from .timing import silence
from .tinyland import timed
from .transformers_comparison import (
    APPENDED,
    BLENDED,
    COUPLED,
    GUIDED,
    LORA_ALONE,
    PERSONAL_ROWS,
    PLAIN,
    ROWS,
    UNCOUPLED,
    Drawn,
)
from .transformers_costs import IDLE, costs_of

_OTHERS = ("amanita", "twinkle", "valentine", "rubik", "cottage", "bouncer")
_SIGNS = (
    "identity_append_above_plain",
    "identity_joint_above_uncoupled",
    "identity_guided_above_plain",
    "layout_blended_above_lora",
)
_MOVED = tuple((method, place) for method in (APPENDED, COUPLED) for place in (BESIDE, INDEX))
TARGETS = {
    IDLE: Target("at most", 1.005),
    **{f"{name}{end}": Target("more than", 0.0) for name in _SIGNS for end in ("", "_low")},
    **{f"apart_{method}_{place}_above_{SAME}_low": Target("at least", 0.0) for method, place in _MOVED},
}
NOTES = (
    "The demo transformer: Z-Image's class with 6.4 M weights, flow matching, the demo's text encoder and autoencoder. "
    f"It computes in {generate.PRECISION}.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class and place as "
    "prompted. layout: spread of the subject's center and size over seeds of one prompt. apart: distance of the "
    "subject's center to the one in the reference, in fractions of the picture. Intervals are 95 % bootstrap intervals "
    "over whole subjects.",
    "append: keys and values of one noised reference after the picture's own, in the later half of the blocks, at "
    "every step. joint: training-free coupling with the same reference. guided: the appearance loss. Nothing was tuned "
    "on this model.",
    "same, beside, index: where the reference's keys stand. With same, tokens of one place collide, so the subject "
    "should stand no nearer to its place in the reference elsewhere.",
    f"lora, blended: {', '.join(PERSONAL)} alone have a LoRA; blended takes the first steps from the vanilla model.",
    "*_above_*: differences of two rows, picture by picture; *_low and *_high are the ends of their intervals.",
    "idle_ratio: a hook in every attention that acts in none. banked_append_ratio: references from a filled bank, "
    "beside banked_append_flops_ratio, the ratio of multiplications. Both are ratios of time to a plain run.",
)


@dataclass(frozen=True)
class Amounts:
    grid: Grid
    personal: Grid
    seconds: float


def _grid(names: tuple[str, ...], prompts: int, seeds: int) -> Grid:
    return Grid(tuple(SUBJECTS[name] for name in names), prompts, seeds)


FULL = Amounts(_grid((*PERSONAL, *_OTHERS), 5, 4), _grid(PERSONAL, 10, 8), 120)
QUICK = Amounts(_grid(PERSONAL[:1], 1, 2), _grid(PERSONAL[:1], 1, 2), 8)


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    _check(weights)
    amounts, drawn, eye = QUICK if quick else FULL, Drawn(weights), judge.Judge.load()
    kept = _kept(drawn)
    scores, shown = {}, {s.name: [*renders(s.training_scenes()[:1])] for s in amounts.grid.subjects}
    with silence():
        for names, grid in ((ROWS, amounts.grid), (PERSONAL_ROWS, amounts.personal)):
            for name in names:
                with timed(name):
                    pictures = drawn.sample((name,), grid, kept)[name]
                far = apart(grid, pictures, eye)
                scores[name] = grid.score(pictures, eye) | ({} if far is None else {"apart": far})
                if names is ROWS:
                    for subject, some in zip(grid.subjects, pictures[:, 0, :2], strict=True):
                        shown[subject.name] += [*some]
        with timed("costs"):
            costs = costs_of(drawn, amounts.grid.subjects[0], amounts.seconds)
    return Report(
        "transformers",
        [row(name, found) for name, found in scores.items()],
        {**signs(scores), **costs},
        TARGETS,
        NOTES,
        sheet(shown),
        "One prompt per line, the same seeds for every row.",
    )


def sweeps(quick: bool, weights: Path = tinyland.WEIGHTS) -> dict[str, Sweep]:
    """All that several processes can draw, by the names of the rows."""
    _check(weights)
    amounts, drawn = QUICK if quick else FULL, Drawn(weights)
    kept = _kept(drawn)
    found = {name: drawn.sweep(name, amounts.grid, kept) for name in ROWS}
    return found | {name: drawn.sweep(name, amounts.personal, kept) for name in PERSONAL_ROWS}


def _kept(drawn: Drawn) -> Kept:
    parts = ("autoencoder", "denoiser", "transformer")
    return Kept.of("transformers", "transformers_comparison", (drawn.settings, drawn.recipe), drawn.weights, parts)


def _check(weights: Path) -> None:
    """Raises FileNotFoundError where the transformer has not been trained."""
    if not (weights / transformer.FILE).is_file():
        raise FileNotFoundError(
            f"expected the demo transformer's weights {transformer.FILE} in {weights}, got none; train it with "
            "`python run.py train transformer`."
        )


def sheet(shown: Mapping[str, list[np.ndarray]]) -> Image.Image:
    return contact_sheet(list(shown.items()), [("reference", 1), *((name, 2) for name in ROWS)])


def apart(grid: Grid, pictures: np.ndarray, eye: judge.Judge) -> np.ndarray | None:
    """Distances [subjects, prompts, seeds] of the subject's center to the one in the reference.

    A picture without a subject counts as the mean of the others; None where no picture has one.
    """
    found = []
    for subject, images in zip(grid.subjects, pictures, strict=True):
        center = eye.look(renders(subject.training_scenes()[:1])).center[0]
        looked = eye.look(images.reshape(-1, *images.shape[2:]))
        found.append(np.linalg.norm(looked.center - center, axis=1).reshape(images.shape[:2]))
    values = np.stack(found)
    if np.isnan(values).all():
        return None
    return np.where(np.isnan(values), np.nanmean(values), values)


def signs(scores: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float | None]:
    """Paired differences between rows: the mean and the ends of its interval; None for what a row lacks."""

    def above(metric: str, first: str, second: str) -> np.ndarray | None:
        both = scores[first].get(metric), scores[second].get(metric)
        return None if both[0] is None or both[1] is None else both[0] - both[1]

    stated = {
        "identity_append_above_plain": above("identity", f"{APPENDED}, {BESIDE}", PLAIN),
        "identity_joint_above_uncoupled": above("identity", f"{COUPLED}, {BESIDE}", UNCOUPLED),
        "identity_guided_above_plain": above("identity", GUIDED, PLAIN),
        # A smaller spread over seeds is the fault of a tuned model that blending mends.
        "layout_blended_above_lora": above("layout", BLENDED, LORA_ALONE),
        "prompt_blended_above_lora": above("prompt", BLENDED, LORA_ALONE),
    }
    for method, place in _MOVED:
        for metric in ("identity", "apart", "prompt"):
            first, second = f"{method}, {place}", f"{method}, {SAME}"
            stated[f"{metric}_{method}_{place}_above_{SAME}"] = above(metric, first, second)
    figures: dict[str, float | None] = {}
    for name, found in stated.items():
        unknown = dict.fromkeys((name, f"{name}_low", f"{name}_high"))
        figures |= unknown if found is None else interval_figures(name, found)
    return figures
