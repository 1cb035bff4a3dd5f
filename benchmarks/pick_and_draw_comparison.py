"""Comparison of Pick-and-Draw (arXiv 2401.16762): base models with and without each loss, as in the shipped
workflow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from comfy.samplers import CFGGuider

from ..demo.world.subjects import PersonalSubject
from ..patching.features.references import INVERTED
from ..patching.host.attach import attach
from ..patching.host.family import SELF_INPUT
from ..patching.host.window import ALWAYS, Window
from ..patching.pick_and_draw.build import guide
from ..patching.pick_and_draw.build_palette import AVERAGE, Picture, build_palette
from ..patching.pick_and_draw.build_template import recorder_of
from ..patching.pick_and_draw.palette import Palette
from ..patching.pick_and_draw.settings import Widgets
from ..patching.pick_and_draw.template import Template
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import LORA, TEXTUAL_INVERSION, VANILLA, with_lora, word, words
from .extras import with_weights
from .grid import Grid, GridPrompt, renders
from .kept import Kept
from .sweep import Sweep

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

BASELINE, APPEARANCE, LAYOUT, BOTH = "baseline", "appearance", "layout", "both"


@dataclass(frozen=True)
class Recipe:
    """Tuned settings; the defaults are the shipped workflow's. strength: of the LoRA."""

    strength: float = 0.8
    appearance_weight: float = 1.0
    appearance_window: tuple[float, float] = (0.3, 0.7)
    layout_weight: float = 1.0
    layout_window: tuple[float, float] = (0.0, 0.12)
    layout_blocks: str = "output2-5"
    blocks: str = "output2-5"
    direction: str = "gen_to_ref"
    step_size: float = 0.1
    step_kind: str = "relative"
    iterations: int = 1
    every: int = 1
    threshold: float = 0.3
    palette_threshold: float = 0.4
    map_blocks: str = "output3"
    palette_map_blocks: str = "output3"
    pictures: int = 1
    source: str = INVERTED
    features: str = SELF_INPUT
    saliency: str = AVERAGE
    decay: float = 1.0
    kernel_size: int = 3
    kernel_width: float = 0.5


class Guided:
    """Rows for one base, one subject, one prompt and a batch of seeds at a time."""

    def __init__(
        self, weights: Path, settings: generate.Settings, recipe: Recipe, full: Callable[[str], Path] | None = None
    ):
        """full: function from a subject's name to its full fine-tune."""
        self.weights, self.settings, self.recipe, self.full = weights, settings, recipe, full
        self.model, self.clip, self.vae = tinyland.load(weights, str(weights / "embeddings"), generate.DTYPE)
        self.encode = generate.TextEncoder(self.clip)
        self._bases: dict[tuple[str, str, float], Any] = {}
        self._palettes: dict[tuple, Palette] = {}
        self._templates: dict[tuple, Template] = {}

    def base(self, name: str, subject: PersonalSubject) -> ModelPatcher:
        """MODEL of a base."""
        if name in (VANILLA, TEXTUAL_INVERSION):
            return self.model
        key = (name, subject.name, self.recipe.strength)
        if key not in self._bases:
            made = (
                with_lora(self.model, self.weights, subject, self.recipe.strength)
                if name == LORA
                else self._fine_tune(subject)
            )
            self._bases[key] = made
        return self._bases[key]

    def _fine_tune(self, subject: PersonalSubject) -> ModelPatcher:
        assert self.full is not None
        return with_weights(self.model, self.full(subject.name))

    def palette(self, base: str, subject: PersonalSubject) -> Palette:
        r = self.recipe
        chosen = (r.blocks, r.palette_threshold, r.palette_map_blocks, r.pictures, r.source, r.features, r.saliency)
        key = (base, subject.name, r.strength, *chosen)
        if key not in self._palettes:
            images = torch.from_numpy(renders(subject.training_scenes()[: r.pictures])).float() / 255
            picture = Picture(
                text=f"a photo of a {words(base, subject)}",
                word=word(base, subject),
                threshold=r.palette_threshold,
                map_blocks=r.palette_map_blocks,
                image=images,
                vae=self.vae,
            )
            made = build_palette(
                self.base(base, subject),
                self.clip,
                picture,
                source=r.source,
                seed=0,
                weight=1.0,
                blocks=r.blocks,
                window=ALWAYS,
                features=r.features,
                saliency=r.saliency,
            )
            self._palettes[key] = made.palette
        return self._palettes[key]

    def template(self, subject: PersonalSubject, prompt: GridPrompt, seeds: Sequence[int]) -> Template:
        """Template of the vanilla model, the same for every base."""
        noun, window = subject.subject.name, Window(0.0, self.recipe.layout_window[1])
        text = prompt.text(noun)
        key = (subject.name, text, tuple(seeds), window)
        if key not in self._templates:
            recorder, tap = recorder_of(self.model, self.clip, text=text, word=noun, blocks="all", window=window)
            self.plain(attach(self.model, tap), text, seeds)
            self._templates[key] = recorder.finish()
        return self._templates[key]

    def plain(self, model: ModelPatcher, text: str, seeds: Sequence[int]) -> torch.Tensor:
        guider = CFGGuider(model)
        guider.set_conds(self.encode([text]), self.encode([""]))
        guider.set_cfg(self.settings.cfg)
        return generate.latents(guider, seeds, self.settings)

    def guided(
        self,
        base: str,
        row: str,
        subject: PersonalSubject,
        prompt: GridPrompt,
        palette: Palette | None,
        template: Template | None,
    ) -> ModelPatcher:
        """MODEL of a row."""
        r, text = self.recipe, prompt.text(words(base, subject))
        widgets = Widgets(
            text=text,
            word=word(base, subject),
            appearance_weight=r.appearance_weight if row in (APPEARANCE, BOTH) else 0.0,
            appearance_start=r.appearance_window[0],
            appearance_end=r.appearance_window[1],
            layout_weight=r.layout_weight if row in (LAYOUT, BOTH) else 0.0,
            layout_start=r.layout_window[0],
            layout_end=r.layout_window[1],
            layout_blocks=r.layout_blocks,
            direction=r.direction,
            step=r.step_kind,
            step_size=r.step_size,
            iterations=r.iterations,
            every=r.every,
            threshold=r.threshold,
            map_blocks=r.map_blocks,
            kernel_size=r.kernel_size,
            kernel_width=r.kernel_width,
            decay=r.decay,
        )
        return guide(self.base(base, subject), self.clip, palette, template, widgets)[0]

    def cell(
        self, base: str, names: Sequence[str], subject: PersonalSubject, prompt: GridPrompt, seeds: Sequence[int]
    ) -> dict:
        """Latents by row; rows that follow a template share one."""
        palette = self.palette(base, subject) if {APPEARANCE, BOTH} & set(names) else None
        template = self.template(subject, prompt, seeds) if {LAYOUT, BOTH} & set(names) else None
        text = prompt.text(words(base, subject))
        models = {
            name: self.base(base, subject)
            if name == BASELINE
            else self.guided(base, name, subject, prompt, palette=palette, template=template)
            for name in names
        }
        return {name: self.plain(model, text, seeds) for name, model in models.items()}

    def sweep(self, base: str, names: tuple[str, ...], grid: Grid, kept: Kept) -> Sweep:
        """Cells of `sample`."""
        cell = partial(self.cell, base, names)
        return Sweep(names, cell, self.vae, grid, kept, f"{base}-{self.recipe.direction}")

    def sample(self, base: str, names: Sequence[str], grid: Grid, kept: Kept | None = None) -> dict[str, np.ndarray]:
        """Pictures [subjects, prompts, seeds, size, size, 3] uint8 by row."""
        return grid.sample_cells(
            names, partial(self.cell, base, names), self.vae, kept, f"{base}-{self.recipe.direction}"
        )

    def with_recipe(self, **changes) -> Guided:
        """Copy with the same models and other settings."""
        other = copy.copy(self)
        other.recipe = replace(self.recipe, **changes)
        return other
