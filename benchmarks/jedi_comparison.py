"""Comparison of JeDi (arXiv 2407.06187): pictures of a subject with references, sampled as in the shipped workflow."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from comfy.samplers import CFGGuider

from ..demo.world.captions import prompt
from ..demo.world.subjects import PersonalSubject
from ..patching.features.pictures import references
from ..patching.features.references import NOISED, References
from ..patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import LORA, with_lora, words
from .extras import copying_model
from .grid import Grid, GridPrompt, renders
from .kept import Kept, cache_folder
from .sweep import Sweep

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

ROWS = (
    "text_only",
    "joint_1",
    "joint_2",
    "joint_3",
    "image_first",
    "text_first",
    "no_replacement",
    "training_free",
    "training_free_uncoupled",
    "lora",
)
COPIES = "copies_1"
"""Row of the joint model that has seen near-copies alone: one reference, as joint_1."""
S3_SETS = "joint, S3 sets"
"""Row of a joint model that was trained on sets of `run.py s3`: one reference, as joint_1."""
S3_TEXT_ONLY = f"{S3_SETS}, text_only"
NODE = "bench"


def s3_joint() -> Path:
    """Place of the model of the row S3_SETS in the cache."""
    return cache_folder() / "s3" / "joint.safetensors"


@dataclass(frozen=True)
class Recipe:
    """Tuned settings; the defaults are the shipped workflow's.

    image_first, text_first: guidance scale of the references in these rows, as a multiple of the text's. free_blocks:
    coupled blocks of a model that was not trained for sets.
    """

    image_first: float = 0.5
    text_first: float = 1.5
    reference_noise: str = "fresh"
    free_blocks: str = "decoder"


class JointSets:
    """Rows of the comparison for one subject, one prompt and a batch of seeds; each picture is a set with the
    references."""

    def __init__(self, weights: Path, settings: generate.Settings, recipe: Recipe):
        self.weights, self.settings, self.recipe = weights, settings, recipe
        self.model, self.clip, self.vae = tinyland.load(weights, None, generate.DTYPE)
        self.joint = tinyland.load(weights, None, generate.DTYPE, joint=True)[0]
        self.encode = generate.TextEncoder(self.clip)
        self._copying: ModelPatcher | None = None
        self._s3: ModelPatcher | None = None
        self._references: dict[tuple[str, int], References] = {}

    def _s3_model(self) -> ModelPatcher:
        return tinyland.load(self.weights, None, generate.DTYPE, joint=True, joint_file=s3_joint())[0]

    def with_settings(self, settings: generate.Settings) -> JointSets:
        """Copy with the same models and other sampler settings."""
        other = copy.copy(self)
        other.settings = settings
        return other

    def with_recipe(self, **changes) -> JointSets:
        """Copy with the same models and another recipe."""
        other = copy.copy(self)
        other.recipe = replace(self.recipe, **changes)
        return other

    def references(self, subject: PersonalSubject, count: int) -> References:
        """First pictures of the subject, each with the caption of its place."""
        if (subject.name, count) not in self._references:
            images = torch.from_numpy(renders(subject.training_scenes()[:count])).float() / 255
            caption = self.encode([prompt(subject.subject.name, subject.place)])
            self._references[subject.name, count] = references(images, self.vae, caption, NOISED, 0, None, 1.0, NODE)
        return self._references[subject.name, count]

    def widgets(self, name: str) -> Widgets:
        """Widgets of the node for a row."""
        cfg, recipe = self.settings.cfg, self.recipe
        free = name.startswith("training_free")
        guidance = "text_only" if name == S3_TEXT_ONLY else name
        return Widgets(
            cfg=cfg,
            guidance=guidance if guidance in ("text_only", "image_first", "text_first") else "joint",
            image_cfg=cfg * {"image_first": recipe.image_first, "text_first": recipe.text_first}.get(name, 1.0),
            strength=0.0 if name == "training_free_uncoupled" else 1.0,
            blocks=recipe.free_blocks if free else "all",
            reference_noise="never" if name == "no_replacement" else recipe.reference_noise,
            channel_order=AUTOMATIC,
        )

    def latents(self, name: str, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int]) -> torch.Tensor:
        if name == "lora":
            personal = with_lora(self.model, self.weights, subject)
            guider = CFGGuider(personal)
            guider.set_conds(self.encode([where.text(words(LORA, subject))]), self.encode([""]))
            guider.set_cfg(self.settings.cfg)
            return generate.latents(guider, seeds, self.settings)
        known = self.references(subject, int(name[-1]) if name[-1].isdigit() else 1)
        model = self.model if name.startswith("training_free") else self.joint
        if name == COPIES:
            model = self._copying = self._copying or copying_model(self.weights)
        if name in (S3_SETS, S3_TEXT_ONLY):
            model = self._s3 = self._s3 or self._s3_model()
        text = self.encode([where.text(subject.subject.name)])
        guider = joint_guider(
            model,
            prompts=[text],
            negative=self.encode([""]),
            references=[known],
            captions=[],
            widgets=self.widgets(name),
            node=NODE,
            pictures=1,
        )
        return generate.latents(guider, seeds, self.settings)

    def sample(self, name: str, grid: Grid, kept: Kept | None = None) -> np.ndarray:
        """Pictures [subjects, prompts, seeds, size, size, 3] uint8 of a row."""

        return grid.sample_cells((name,), partial(self.cell, name), self.vae, kept, "jedi")[name]

    def cell(
        self, name: str, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """Latents of one row by its name."""
        return {name: self.latents(name, subject, where, seeds)}

    def sweep(self, name: str, grid: Grid, kept: Kept) -> Sweep:
        """Cells of `sample`."""
        return Sweep((name,), partial(self.cell, name), self.vae, grid, kept, "jedi")
