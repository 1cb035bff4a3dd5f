"""Methods of the papers and their peers on one base, from the same noise, each over its strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..demo.world.captions import neutral_caption, prompt
from ..demo.world.subjects import PersonalSubject
from ..patching.features.lending import BANKED
from ..patching.features.pictures import references
from ..patching.features.references import INVERTED, NOISED, References
from ..patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.settings import APPEND, FORK, NONE, REPLACE, RetouchSettings
from ..patching.tinyland import model as tinyland
from . import generate
from .bases import LORA, TEXTUAL_INVERSION, VANILLA, placeholder, word, words
from .grid import Grid, GridPrompt, renders
from .kept import Kept
from .layout_and_retouch_comparison import Ablation
from .layout_and_retouch_comparison import Recipe as Retouching
from .pick_and_draw_comparison import BOTH, Guided
from .pick_and_draw_comparison import Recipe as Guidance
from .style_aligned import style_aligned
from .sweep import Sweep

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

PLAIN = "plain"
RETOUCH, PICK_AND_DRAW, TRAINING_FREE, JOINT = "layout-and-retouch", "pick-and-draw", "jedi, training-free", "jedi"
REFERENCE_ONLY, STYLE_ALIGNED, MASACTRL, PALETTE = "reference-only", "StyleAligned", "MasaCtrl", "palette, no mask"
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
STEP_SIZES, SCALES = (0.025, 0.05, 0.1, 0.2), (0.25, 0.5, 1.0, 1.5)
STRENGTH_OF = {
    RETOUCH: STRENGTHS,
    PICK_AND_DRAW: STEP_SIZES,
    TRAINING_FREE: STRENGTHS,
    REFERENCE_ONLY: STRENGTHS,
    STYLE_ALIGNED: STRENGTHS,
    MASACTRL: STRENGTHS,
    PALETTE: STEP_SIZES,
    JOINT: SCALES,
}
"""Strengths of each method: of its change, of a guided step, or of the references' guidance by that of the text."""
SHIPPED = dict.fromkeys(STRENGTH_OF, 1.0) | {PICK_AND_DRAW: 0.1, PALETTE: 0.1}
"""Strength of each method in the shipped workflows, or in its paper."""
OURS, PEERS = (RETOUCH, PICK_AND_DRAW, TRAINING_FREE), (REFERENCE_ONLY, STYLE_ALIGNED, MASACTRL, PALETTE)
METHODS = {
    LORA: (*OURS, *PEERS),
    TEXTUAL_INVERSION: (*OURS, *PEERS),
    VANILLA: (PICK_AND_DRAW, TRAINING_FREE, JOINT, *PEERS),
}
"""Methods by base. Layout-and-Retouch needs a personalized one; the joint model was tuned from the vanilla one."""
MASACTRL_FROM = 2
"""First step of MasaCtrl's replacement, the fourth of fifty in its paper."""
NODE = "bench"


@dataclass(frozen=True)
class Recipe:
    """Settings of one base. strength: of its LoRA; weight: of the retouch's reference."""

    base: str
    strength: float = 0.6
    weight: float = 1.0


RECIPES = {LORA: Recipe(LORA), TEXTUAL_INVERSION: Recipe(TEXTUAL_INVERSION, weight=3.0), VANILLA: Recipe(VANILLA)}


class Peers:
    """Rows of one base for one subject, one prompt and a batch of seeds at a time."""

    def __init__(self, weights: Path, settings: generate.Settings, recipe: Recipe):
        self.weights, self.settings, self.recipe, self.base = weights, settings, recipe, recipe.base
        retouching = Retouching(base=recipe.base, strength=recipe.strength, weight=recipe.weight)
        self.ablation = Ablation(weights, settings, retouching.at_steps(settings.steps))
        self.guided = Guided(weights, settings, Guidance(strength=recipe.strength))
        self.encode, self.vae = self.ablation.encode, self.ablation.vae
        self._joint: ModelPatcher | None = None
        self._references: dict[tuple[str, str], References] = {}

    def reference(self, subject: PersonalSubject, kind: str) -> References:
        """First picture of the subject, whole: a peer has no mask."""
        if (subject.name, kind) not in self._references:
            images = torch.from_numpy(renders(subject.training_scenes()[:1])).float() / 255
            text = self.encode([neutral_caption(word(self.base, subject), placeholder(self.base))])
            self._references[subject.name, kind] = references(images, self.vae, text, kind, 0, None, 1.0, NODE)
        return self._references[subject.name, kind]

    def cell(
        self, method: str, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """Latents of a method by the names of its rows."""
        text = where.text(words(self.base, subject))
        model = self.ablation.personalized(subject)
        if method == PLAIN:
            return {PLAIN: self.ablation.plain(model, text, seeds)}
        strengths = STRENGTH_OF[method]
        if method in (TRAINING_FREE, JOINT):
            made = [self._set(method, model, subject, where, seeds, strength) for strength in strengths]
        else:
            patched = self._patches(method, model, subject, where, seeds)
            made = [self.ablation.plain(patched(strength), text, seeds) for strength in strengths]
        return dict(zip(rows_of(method), made, strict=True))

    def _patches(
        self, method: str, model: ModelPatcher, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int]
    ) -> Callable[[float], ModelPatcher]:
        """Makes the function from a strength to the patched MODEL."""
        if method == RETOUCH:
            return self._retouched(subject, where, seeds)
        if method in (PICK_AND_DRAW, PALETTE):
            return partial(self._guided, method, subject, where, seeds)
        if method == STYLE_ALIGNED:
            return partial(style_aligned, model, self.reference(subject, INVERTED))
        replaces = method == MASACTRL
        known = self.reference(subject, INVERTED if replaces else NOISED)

        def borrowing(strength: float) -> ModelPatcher:
            settings = RetouchSettings(
                early_swap=NONE,
                lambda_2=MASACTRL_FROM if replaces else 0,
                lambda_3=self.settings.steps,
                blocks="paper" if replaces else "all",
                attention=REPLACE if replaces else APPEND,
                mode=BANKED,
                strength=strength,
            )
            return retouch(model, known, None, None, settings)

        return borrowing

    def _retouched(
        self, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int]
    ) -> Callable[[float], ModelPatcher]:
        """Row V of Layout-and-Retouch; all strengths share the layout."""
        ablation, r = self.ablation, self.ablation.recipe
        text = where.text(words(self.base, subject))
        layout, trajectory = ablation.blended(subject, where, seeds, record=r.blocks)
        mask = ablation.mask(subject, layout, text)

        def retouched(strength: float) -> ModelPatcher:
            settings = RetouchSettings(
                early_swap=FORK,
                lambda_2=r.lambda_2,
                lambda_3=r.lambda_3,
                blocks=r.blocks,
                attention=r.attention,
                mode=BANKED,
                strength=strength,
            )
            return retouch(ablation.personalized(subject), ablation.reference(subject), trajectory, mask, settings)

        return retouched

    def _guided(
        self, method: str, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int], step_size: float
    ) -> ModelPatcher:
        """Both losses of Pick-and-Draw, or a palette of the whole reference for the whole picture."""
        if method == PICK_AND_DRAW:
            guided = self.guided.with_recipe(step_size=step_size)
            template = guided.template(subject, where, seeds)
            palette = guided.palette(self.base, subject)
            return guided.guided(self.base, BOTH, subject, where, palette, template)
        guided = self.guided.with_recipe(step_size=step_size, threshold=0.0, palette_threshold=0.0)
        return guided.guided(self.base, "appearance", subject, where, guided.palette(self.base, subject), None)

    def _set(
        self,
        method: str,
        model: ModelPatcher,
        subject: PersonalSubject,
        where: GridPrompt,
        seeds: Sequence[int],
        strength: float,
    ) -> torch.Tensor:
        """JeDi: training-free coupling of the base, or the joint model over its references' guidance."""
        cfg, trained = self.settings.cfg, method == JOINT
        if trained and self._joint is None:
            self._joint = tinyland.load(self.weights, None, generate.DTYPE, joint=True)[0]
        images = torch.from_numpy(renders(subject.training_scenes()[:1])).float() / 255
        caption = self.encode([prompt(subject.subject.name, subject.place)])
        guider = joint_guider(
            self._joint if trained and self._joint is not None else model,
            prompts=[self.encode([where.text(words(self.base, subject))])],
            negative=self.encode([""]),
            references=[references(images, self.vae, caption, NOISED, 0, None, 1.0, NODE)],
            captions=[],
            widgets=Widgets(
                cfg=cfg,
                guidance="text_first" if trained else "joint",
                image_cfg=cfg * strength if trained else cfg,
                strength=1.0 if trained else strength,
                blocks="all" if trained else "decoder",
                reference_noise="fresh",
                channel_order=AUTOMATIC,
            ),
            node=NODE,
            pictures=1,
        )
        return generate.latents(guider, seeds, self.settings)

    def sweep(self, method: str, grid: Grid, kept: Kept) -> Sweep:
        """Cells of `sample`."""
        return Sweep(rows_of(method), partial(self.cell, method), self.vae, grid, kept, self.base)

    def sample(self, method: str, grid: Grid, kept: Kept | None = None) -> dict[str, np.ndarray]:
        """Pictures [subjects, prompts, seeds, size, size, 3] uint8 by row."""
        return grid.sample_cells(rows_of(method), partial(self.cell, method), self.vae, kept, self.base)


def rows_of(method: str) -> tuple[str, ...]:
    """Names of a method's rows, from weak to strong."""
    return (PLAIN,) if method == PLAIN else tuple(f"{method} {strength:g}" for strength in STRENGTH_OF[method])
