"""Ablation of Layout-and-Retouch (arXiv 2407.09779, section 4.3): rows I to V, sampled as in the shipped workflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from comfy.samplers import CFGGuider

from ..demo import judge
from ..demo.world.captions import neutral_caption
from ..demo.world.subjects import PersonalSubject
from ..kernels.heatmaps import min_max
from ..kernels.layout_and_retouch import MaskRules, thresholded
from ..patching.features.lending import BANKED
from ..patching.features.pictures import references
from ..patching.features.references import INVERTED, References
from ..patching.features.word_maps import word_maps
from ..patching.host.window import Window
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.mask import PER_STEP, RECORDED, SubjectMask, build_mask
from ..patching.layout_and_retouch.settings import FORK, NONE, RetouchSettings
from ..patching.layout_and_retouch.step_blended import StepBlendedGuider
from ..patching.layout_and_retouch.switch import Switch
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import CUSTOM_DIFFUSION, LORA, TEXTUAL_INVERSION, VANILLA, placeholder, with_lora, word, words
from .extras import of_subjects, with_weights
from .grid import Grid, GridPrompt, renders
from .kept import Kept
from .sweep import Sweep

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MAP_LEVELS = 4
DEFAULT_STEPS = 25
"""Steps of the run that a recipe counts in."""
ATTENTION, SEGMENTER, BOTH = "attention", "segmenter", "both"
MASKS = {"V": ATTENTION, "V_segmenter": SEGMENTER, "V_both": BOTH}
"""Rows with a mask (appendix C.2), and what it is made of. The judge's segmentation stands for Segment Anything."""


@dataclass(frozen=True)
class Recipe:
    """Tuned settings; the defaults are the shipped workflow's.

    base: personalization; strength: of its LoRA; alone_from: first step of the swap in row III; pictures: number of
    references; weight: of each. masked: borrow only the subject, found by its word's attention in the reference.
    neutral: the target's prompt names the subject alone.
    """

    base: str = LORA
    strength: float = 0.6
    switch_step: int = 8
    lambda_2: int = 9
    lambda_3: int = 9
    alone_from: int = 8
    blocks: str = "output4, output5"
    attention: str = "append"
    threshold: float = 0.3
    map_blocks: str = "decoder"
    pictures: int = 1
    weight: float = 1.0
    masked: bool = True
    neutral: bool = False

    def at_steps(self, steps: int) -> Recipe:
        """Recipe for a run of another number of steps, whose parts are as large as in the default run."""

        def scaled(step: int) -> int:
            return min(steps, max(1, round(step * steps / DEFAULT_STEPS)))

        names = ("switch_step", "lambda_2", "lambda_3", "alone_from")
        return replace(self, **{name: scaled(getattr(self, name)) for name in names})


class Ablation:
    """Rows I to V for one subject, one prompt and a batch of seeds at a time."""

    def __init__(self, weights: Path, settings: generate.Settings, recipe: Recipe):
        self.weights, self.settings, self.recipe = weights, settings, recipe
        self.model, self.clip, self.vae = tinyland.load(weights, str(weights / "embeddings"), generate.DTYPE)
        self.encode = generate.TextEncoder(self.clip)
        self._personal: dict[str, ModelPatcher] = {}
        self._references: dict[str, References] = {}

    def personalized(self, subject: PersonalSubject) -> Any:
        if self.recipe.base in (TEXTUAL_INVERSION, VANILLA):
            return self.model
        if subject.name not in self._personal:
            (tuned,) = of_subjects([subject.name])
            self._personal[subject.name] = (
                with_weights(self.model, tuned)
                if self.recipe.base == CUSTOM_DIFFUSION
                else with_lora(self.model, self.weights, subject, self.recipe.strength)
            )
        return self._personal[subject.name]

    def reference(self, subject: PersonalSubject) -> References:
        if subject.name not in self._references:
            r = self.recipe
            images = torch.from_numpy(renders(subject.training_scenes()[: r.pictures])).float() / 255
            text = neutral_caption(word(r.base, subject), placeholder(r.base))
            mask = self.heatmaps(subject, self.vae.encode(images), text) if r.masked else None
            made = references(images, self.vae, self.encode([text]), INVERTED, 0, mask, r.weight, "bench")
            self._references[subject.name] = made
        return self._references[subject.name]

    def plain(self, model: ModelPatcher, text: str, seeds: Sequence[int], cfg: float | None = None) -> torch.Tensor:
        guider = CFGGuider(model)
        guider.set_conds(self.encode([text]), self.encode([""]))
        guider.set_cfg(self.settings.cfg if cfg is None else cfg)
        return generate.latents(guider, seeds, self.settings)

    def blended(
        self, subject: PersonalSubject, prompt: GridPrompt, seeds: Sequence[int], personalized=None, record: str = ""
    ):
        guider = StepBlendedGuider(
            self.model,
            personalized or self.personalized(subject),
            Switch(steps=self.recipe.switch_step),
            "bench",
            record,
        )
        full = prompt.text(words(self.recipe.base, subject))
        guider.set_blended_conds(
            self.encode([prompt.text(subject.subject.name)]), self.encode([full]), self.encode([""])
        )
        guider.set_cfg(self.settings.cfg)
        return generate.latents(guider, seeds, self.settings), guider.trajectory

    def cell(
        self, names: Sequence[str], subject: PersonalSubject, prompt: GridPrompt, seeds: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """Latents of the ablation's rows; rows that need a layout share one."""
        r, model, full = self.recipe, self.personalized(subject), prompt.text(words(self.recipe.base, subject))
        found = {}
        if "I" in names:
            found["I"] = self.plain(model, full, seeds)
        if {"II", "IV", *MASKS} & set(names):
            found["II"], trajectory = self.blended(subject, prompt, seeds, record=r.blocks)
        if "III" in names:
            alone = self.retouched(subject, None, None, early=NONE, lambda_2=r.alone_from, lambda_3=self.settings.steps)
            found["III"] = self.blended(subject, prompt, seeds, alone)[0]
        neutral = neutral_caption(word(r.base, subject), placeholder(r.base))
        text = neutral if r.neutral else full
        for name in {"IV", *MASKS} & set(names):
            mask = self.mask(subject, found["II"], full, text, MASKS[name]) if name in MASKS else None
            patched = self.retouched(subject, trajectory, mask, early=FORK, lambda_2=r.lambda_2, lambda_3=r.lambda_3)
            found[name] = self.plain(patched, text, seeds)
        return {name: found[name] for name in names}

    def mask(
        self,
        subject: PersonalSubject,
        layout: torch.Tensor,
        text: str,
        target_text: str | None = None,
        kind: str = ATTENTION,
    ) -> SubjectMask:
        """Mask made of attention maps as in the shipped workflow, or with a segmentation of the layout image.

        text, target_text: prompts of the layout and of the target, None for the same.
        """
        r, heat = self.recipe, self.heatmaps(subject, layout, text)
        rules, named = MaskRules(threshold=r.threshold), word(r.base, subject)
        found = None if kind == ATTENTION else self.segmented(layout, heat)
        if kind == SEGMENTER:
            return build_mask(found, None, RECORDED, blocks=r.map_blocks, rules=rules)
        seen = None if found is not None else heat
        return build_mask(found, seen, PER_STEP, self.clip, target_text or text, named, r.map_blocks, rules)

    def segmented(self, samples: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
        """Masks [n, height, width] of the subject by the judge; by attention where the judge finds none."""
        seen = judge.Judge.load().look(generate.decode(self.vae, samples))
        found = torch.from_numpy(seen.mask > 0.5)
        attended = thresholded(min_max(heat.float().cpu()), self.recipe.threshold).float()
        attended = F.interpolate(attended[:, None], found.shape[1:], mode="nearest")[:, 0]
        return torch.where(torch.from_numpy(seen.size > 0)[:, None, None], found.float(), attended)

    def heatmaps(self, subject: PersonalSubject, samples: torch.Tensor, text: str) -> torch.Tensor:
        """Heatmaps [n, height, width] in 0..1 of the subject's word in pictures."""
        model, latent, named = self.personalized(subject), {"samples": samples}, word(self.recipe.base, subject)
        maps = word_maps(
            model,
            self.clip,
            latent,
            text=text,
            word=named,
            blocks="all",
            group_by="together",
            window=Window(0.2, 0.8),
            levels=MAP_LEVELS,
            seed=0,
            vae=self.vae,
        )
        return maps.heatmaps

    def retouched(self, subject: PersonalSubject, layout, mask, *, early: str, lambda_2: int, lambda_3: int):
        r = self.recipe
        settings = RetouchSettings(
            early_swap=early, lambda_2=lambda_2, lambda_3=lambda_3, blocks=r.blocks, attention=r.attention, mode=BANKED
        )
        return retouch(self.personalized(subject), self.reference(subject), layout, mask, settings)

    def sweep(self, names: tuple[str, ...], grid: Grid, kept: Kept) -> Sweep:
        """Cells of `sample`."""
        return Sweep(names, partial(self.cell, names), self.vae, grid, kept, self.recipe.base)

    def sample(self, names: Sequence[str], grid: Grid, kept: Kept | None = None) -> dict[str, np.ndarray]:
        """Pictures [subjects, prompts, seeds, size, size, 3] uint8 by row."""
        return grid.sample_cells(names, partial(self.cell, names), self.vae, kept, self.recipe.base)
