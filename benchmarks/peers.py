"""The papers' methods beside their peers: same base, same seeds, same judge, one line per method over its strength."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..demo import judge
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import LORA, TEXTUAL_INVERSION, VANILLA
from .chart import beside, pareto
from .grid import Grid, row
from .kept import Kept
from .peers_comparison import METHODS, PLAIN, RECIPES, SHIPPED, Peers, rows_of
from .report import Report, interval_figures
from .samples import REPORTED, grid_of
from .sweep import Sweep
from .timing import silence
from .tinyland import timed

BASES = (VANILLA, LORA, TEXTUAL_INVERSION)
AXES = ("prompt", "layout")
NOTES = (
    "Settings of the papers' methods were tuned on other subjects; those of the peers are their papers'. One reference "
    f"for every method. The denoiser computes in {generate.PRECISION}.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class and place as "
    "prompted. layout: spread of the subject's center and size over seeds of one prompt. Intervals are 95 % bootstrap "
    "intervals over whole subjects and the prompts within.",
    "Bases: vanilla names the class alone; lora has strength 0.6; textual_inversion names an embedding. "
    "layout-and-retouch needs a personalized base. jedi is the joint model, which was tuned from the vanilla one.",
    "Numbers after a name: strength of the change; size of a guided step (pick-and-draw and the palette); the "
    "references' guidance by the text's (jedi, text first).",
    "reference-only: keys and values of the noised reference appended in all blocks. StyleAligned: those of the "
    "inverted reference appended, queries and keys normalized to it. MasaCtrl: they replace the own ones in the "
    "decoder, from the second step. palette, no mask: the appearance loss between whole pictures, without layout.",
    "*_gain: a method at its shipped strength less the base alone, picture by picture; *_low and *_high are the ends "
    "of their intervals. *_on_front: share of a method's strengths that no other method's strength beats in both "
    "scores, by the means.",
)


@dataclass(frozen=True)
class Amounts:
    grid: Grid


FULL = Amounts(grid_of(128))
QUICK = Amounts(Grid(REPORTED[:1], prompts=1, seeds=2))
Scores = Mapping[str, Mapping[str, np.ndarray]]
"""Scores of each row of a base by metric, [subjects, prompts, seeds] or [subjects, prompts]."""


def run(quick: bool, weights: Path = tinyland.WEIGHTS, bases: tuple[str, ...] = BASES) -> Report:
    grid, eye = (QUICK if quick else FULL).grid, judge.Judge.load()
    rows, figures, picture = [], {}, None
    for base in bases[:1] if quick else bases:
        scores = compared(base, weights, grid, eye)
        rows += [row(f"{base}: {name}", found) for name, found in scores.items()]
        figures |= {f"{base}_{name}": value for name, value in figures_of(METHODS[base], scores).items()}
        drawn = plots(base, scores)
        picture = drawn if picture is None else beside(picture, drawn)
    caption = "Each line is a method over its strength, its square the strongest; the cross is the base alone."
    return Report("peers", rows, figures, {}, NOTES, picture, caption)


def compared(base: str, weights: Path, grid: Grid, eye: judge.Judge) -> dict[str, dict[str, np.ndarray]]:
    """Scores of every row of a base."""
    peers, scores = Peers(weights, generate.Settings(), RECIPES[base]), {}
    kept = _kept(peers)
    with silence():
        for method in (PLAIN, *METHODS[base]):
            with timed(f"{base}: {method}"):
                images = peers.sample(method, grid, kept)
            scores |= {name: grid.score(pictures, eye) for name, pictures in images.items()}
    return scores


def sweeps(quick: bool, weights: Path = tinyland.WEIGHTS) -> dict[str, Sweep]:
    """All that several processes can draw."""
    grid, found = (QUICK if quick else FULL).grid, {}
    for base in BASES[:1] if quick else BASES:
        peers = Peers(weights, generate.Settings(), RECIPES[base])
        kept = _kept(peers)
        found |= {f"{base}: {method}": peers.sweep(method, grid, kept) for method in (PLAIN, *METHODS[base])}
    return found


def _kept(peers: Peers) -> Kept:
    parts = ("autoencoder", "denoiser", "joint")
    return Kept.of("peers", "peers_comparison", (peers.settings, peers.recipe), peers.weights, parts)


def figures_of(methods: tuple[str, ...], scores: Scores) -> dict[str, float]:
    """Gains of each method at its shipped strength, and its shares of the two Pareto fronts."""
    found = {}
    for method in methods:
        key = method.lower().replace(", ", "_").replace(" ", "_").replace("-", "_")
        for metric, values in scores[f"{method} {SHIPPED[method]:g}"].items():
            found |= interval_figures(f"{key}_{metric}_gain", values - scores[PLAIN][metric])
        for axis in AXES:
            found[f"{key}_{axis}_on_front"] = on_front(method, methods, scores, axis)
    return found


def points(method: str, scores: Scores, axis: str) -> list[tuple[float, float]]:
    """Means (axis, identity) of a method, from weak to strong."""
    return [(float(scores[r][axis].mean()), float(scores[r]["identity"].mean())) for r in rows_of(method)]


def on_front(method: str, methods: tuple[str, ...], scores: Scores, axis: str) -> float:
    """Share of a method's points that no point of another method beats in one score and equals in the other."""
    others = [p for other in methods if other != method for p in points(other, scores, axis)]
    own = points(method, scores, axis)
    beaten = [any(o[0] >= p[0] and o[1] >= p[1] and o != p for o in others) for p in own]
    return 1 - sum(beaten) / len(own)


def plots(base: str, scores: Scores) -> Image.Image:
    """Draws identity against prompt and against layout, side by side."""
    drawn = []
    for axis in AXES:
        paths = {method: points(method, scores, axis) for method in METHODS[base]}
        drawn.append(pareto(paths, (axis, "identity"), base, points(PLAIN, scores, axis)[0]))
    both = Image.new("RGB", (sum(d.width for d in drawn), drawn[0].height), "white")
    both.paste(drawn[0], (0, 0))
    both.paste(drawn[1], (drawn[0].width, 0))
    return both
