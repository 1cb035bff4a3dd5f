"""Benchmark of the bundled model and its judge, and of the problem that the papers solve in personalized models.

All pictures and renders are unseen in training.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import comfy.sd
import numpy as np
import torch
from comfy.samplers import CFGGuider
from PIL import Image

from ..demo import judge
from ..demo.world.captions import PLACEHOLDER, caption, named_extras
from ..demo.world.extras import EXTRAS
from ..demo.world.look_alikes import look_alike
from ..demo.world.scene import CLASSES, COLORS, PATTERNS, PLACES, Scene, Subject, sample_scene, sample_subject
from ..demo.world.subjects import HELD_OUT, SUBJECTS, PersonalSubject
from ..patching.tinyland import model as tinyland
from . import generate
from .grid import Grid, GridPrompt, Method, contact_sheet, renders, row
from .report import Report, Target

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

TARGETS = {
    "class_accuracy": Target("at least", 0.95),
    "place_accuracy": Target("at least", 0.95),
    "colour_accuracy": Target("at least", 0.90),
    "pattern_accuracy": Target("at least", 0.85),
    "autoencoder_psnr_db": Target("at least", 28.0),
    "identity_auc": Target("at least", 0.99),
}
NOTES = (
    "class, place, color and pattern accuracy: captions of unseen scenes, one picture each, seen by the judge; "
    "color and pattern only where the caption names them, extras_accuracy: all that the caption names, if any.",
    "judge_accuracy: share of unseen renders with class, color, pattern and place all right; *_judge_accuracy: one "
    "attribute alone, or all extras and no other.",
    "identity_auc: a render's identity to its own subject against its identity to any other; look_alike_auc: against "
    "a subject that differs in one property that no caption names, or in the pattern.",
    "identity: cosine of masked subject embeddings to the four reference renders. prompt: class, place and extras as "
    "prompted, never the place of the references. layout: spread of the subject's center and size over seeds of one "
    "prompt.",
    "Intervals are 95 % bootstrap intervals; whole subjects are resampled, or whole prompts in a row with one subject.",
)


@dataclass(frozen=True)
class Amounts:
    """Sample sizes: prompts, renders through the autoencoder, judged renders, random subjects, and the grid."""

    prompts: int
    restored: int
    judged: int
    distinguished: int
    grid: Grid


FULL = Amounts(500, 200, 1000, 100, Grid(tuple(SUBJECTS.values()), prompts=5, seeds=6))
QUICK = Amounts(48, 32, 200, 20, Grid(tuple(SUBJECTS.values())[:2], prompts=4, seeds=3))


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    amounts = QUICK if quick else FULL
    settings = generate.Settings()
    model, clip, vae = tinyland.load(weights, str(weights / "embeddings"))
    eye = judge.Judge.load()
    with timed("prompts"):
        figures = caption_accuracies(model, clip, vae, eye, settings, amounts.prompts)
    with timed("renders"):
        figures["autoencoder_psnr_db"] = autoencoder_psnr(vae, amounts.restored)
        figures |= judge_figures(eye, amounts.judged, amounts.distinguished)
    rows, sheet = personal_rows(personal_methods(model, clip, settings, weights), amounts.grid, vae, eye, settings)
    caption = (
        "One prompt per line, the same seeds for every method: an overfitted model brings its references' layout along."
    )
    return Report("tinyland", rows, figures, TARGETS, NOTES, sheet, caption)


@contextlib.contextmanager
def timed(part: str) -> Iterator[None]:
    """Prints the duration of a part, to show that a long run progresses."""
    started = time.monotonic()
    yield
    print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)


def caption_accuracies(
    model: ModelPatcher, clip: CLIP, vae: VAE, eye: judge.Judge, settings: generate.Settings, count: int
) -> dict[str, float]:
    """Share of `count` captions of unseen scenes that are drawn right, per attribute that the caption names.

    extras: all that the caption names are there.
    """
    scenes = unseen_scenes(count)
    captions = [caption(scene, Random(i)) for i, scene in enumerate(scenes)]
    guide = generate.plain(model, generate.TextEncoder(clip), settings)
    verdict = eye.look(generate.pictures(guide, vae, captions, range(count), settings))
    asked = [named_extras(text) for text in captions]
    right = attributes_right(verdict, scenes) | {
        "extras": judge.prompt_accuracy(verdict, [{"extras": names} for names in asked])
    }
    words = [set(text.split()) for text in captions]
    named = {
        "colour": np.array([scene.subject.color in w for scene, w in zip(scenes, words, strict=True)]),
        "pattern": np.array([scene.subject.pattern in w for scene, w in zip(scenes, words, strict=True)]),
        "extras": np.array([bool(names) for names in asked]),
    }
    return {
        f"{attribute}_accuracy": float(r[named.get(attribute, slice(None))].mean()) for attribute, r in right.items()
    }


def attributes_right(verdict: judge.Verdict, scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
    """Correctness per attribute, bool [n]: True if the judge sees what the scene contains."""
    return {
        "class": verdict.class_index == [CLASSES.index(s.subject.name) for s in scenes],
        "place": verdict.place_index == [PLACES.index(s.place) for s in scenes],
        "colour": verdict.colour_index == [tuple(COLORS).index(s.subject.color) for s in scenes],
        "pattern": verdict.pattern_index == [PATTERNS.index(s.subject.pattern) for s in scenes],
    }


def autoencoder_psnr(vae: VAE, count: int) -> float:
    """Mean peak signal-to-noise ratio in dB over unseen renders, encoded and decoded by ComfyUI's VAE."""
    images = torch.from_numpy(renders(unseen_scenes(count))).float() / 255
    restored = vae.decode(vae.encode(images)).float().cpu().clamp(0, 1)
    return float((-10 * torch.log10((restored - images).square().mean((1, 2, 3)))).mean())


def judge_figures(eye: judge.Judge, count: int, random_subjects: int) -> dict[str, float]:
    """Accuracy of the judge on `count` unseen renders, and how well its identity separates demo and random subjects."""
    scenes = unseen_scenes(count)
    verdict = eye.look(renders(scenes))
    right = attributes_right(verdict, scenes)
    figures = {"judge_accuracy": float(np.logical_and.reduce(list(right.values())).mean())}
    there = np.array([[name in scene.extras for name in EXTRAS] for scene in scenes])
    right |= {"extras": (verdict.extras == there).all(1)}
    figures |= {f"{attribute}_judge_accuracy": float(values.mean()) for attribute, values in right.items()}

    known = [s.subject for s in (*SUBJECTS.values(), *HELD_OUT.values())]
    subjects = [*known, *(sample_subject(Random(f"bench-subject-{i}")) for i in range(random_subjects))]
    twins = [look_alike(subject, Random(f"bench-twin-{i}")) for i, subject in enumerate(subjects)]
    references, seen, seen_twins = (
        [eye.look(views(subject, f"{seed}-{i}")) for i, subject in enumerate(some)]
        for seed, some in (("reference", subjects), ("view", subjects), ("twin", twins))
    )
    scores = np.array([[judge.identity(verdict, reference) for reference in references] for verdict in seen])
    own = np.eye(len(subjects), dtype=bool)
    twin_scores = [
        judge.identity(verdict, reference) for verdict, reference in zip(seen_twins, references, strict=True)
    ]
    figures["identity_auc"] = judge.ranking_auc(scores[own].ravel(), scores[~own].ravel())
    figures["look_alike_auc"] = judge.ranking_auc(scores[own].ravel(), np.concatenate(twin_scores))
    return figures


def views(subject: Subject, seed: str) -> np.ndarray:
    """[4, size, size, 3] uint8: the subject in other places and poses."""
    return renders([sample_scene(Random(f"bench-{seed}-{i}"), subject) for i in range(4)])


@dataclass(frozen=True)
class PersonalMethod:
    """Row of the comparison, and the subjects that it can draw."""

    name: str
    sample: Method
    subjects: frozenset[str]


def personal_methods(
    model: ModelPatcher, clip: CLIP, settings: generate.Settings, weights: Path
) -> list[PersonalMethod]:
    """Methods: vanilla names the subject by color and class, the LoRA by its placeholder, textual inversion by its
    embedding."""

    def drawn(model: ModelPatcher, clip: CLIP, words: str) -> Callable[[Sequence[GridPrompt]], CFGGuider]:
        guide = generate.plain(model, generate.TextEncoder(clip), settings)
        return lambda prompts: guide([prompt.text(words) for prompt in prompts])

    def vanilla(personal: PersonalSubject):
        return drawn(model, clip, f"{personal.subject.color} {personal.subject.name}")

    def lora(personal: PersonalSubject):
        tensors, _ = tinyland.read_weights(weights / "subjects" / f"{personal.name}.safetensors", "tinyland_subject")
        patched_model, patched_clip = comfy.sd.load_lora_for_models(model, clip, tensors, 1.0, 1.0)
        assert patched_model is not None and patched_clip is not None
        return drawn(patched_model, patched_clip, f"{PLACEHOLDER} {personal.subject.name}")

    def textual_inversion(personal: PersonalSubject):
        return drawn(model, clip, f"embedding:{personal.name}")

    embedded = frozenset(path.stem for path in (weights / "embeddings").glob("*.safetensors"))
    return [
        PersonalMethod("vanilla", vanilla, frozenset(SUBJECTS)),
        PersonalMethod("lora", lora, frozenset(SUBJECTS)),
        PersonalMethod("textual_inversion", textual_inversion, embedded),
    ]


def personal_rows(
    methods: Sequence[PersonalMethod], grid: Grid, vae: VAE, eye: judge.Judge, settings: generate.Settings
) -> tuple[list[dict], Image.Image]:
    """Rows, one per method, and a sheet of the grid's first prompt.

    If a method cannot draw every subject, the other methods get a second row over the subjects that it can draw.
    """
    rows, more, scores = [], [], {}
    seeds = min(3, grid.seeds)
    lines = {s.name: [*renders(s.training_scenes()[:1])] for s in grid.subjects}
    for method in methods:
        numbers = [i for i, s in enumerate(grid.subjects) if s.name in method.subjects]
        if not numbers:
            continue
        part = replace(grid, subjects=tuple(grid.subjects[i] for i in numbers))
        with timed(method.name):
            images = part.sample(method.sample, vae, settings)
            scores[method.name] = part.score(images, eye)
        rows.append(row(method.name, scores[method.name]))
        if len(numbers) < len(grid.subjects):
            full = [(n, s) for n, s in scores.items() if n != method.name]
            more += [
                row(f"{name}, subjects of {method.name}", {k: v[numbers] for k, v in s.items()}) for name, s in full
            ]
        for i, subject in enumerate(grid.subjects):
            blank = np.full(images.shape[3:], 255, np.uint8)
            lines[subject.name] += [*images[numbers.index(i), 0, :seeds]] if i in numbers else [blank] * seeds
    return rows + more, contact_sheet(list(lines.items()), [("reference", 1), *((name, seeds) for name in scores)])


def unseen_scenes(count: int) -> list[Scene]:
    return [sample_scene(Random(f"bench-{i}")) for i in range(count)]
