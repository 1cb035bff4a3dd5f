"""Comparison on the demo transformer: each method beside the same model without it, from the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.sd
import numpy as np
import torch
from comfy.samplers import CFGGuider

from ..demo.launcher.files import digest
from ..demo.world.captions import neutral_caption
from ..demo.world.subjects import PersonalSubject
from ..patching.features.lending import BANKED
from ..patching.features.pictures import references
from ..patching.features.positions import BESIDE, POSITIONS
from ..patching.features.references import NOISED, References
from ..patching.host.window import ALWAYS
from ..patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from ..patching.jedi.run import FRESH, JOINT
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.settings import APPEND, NONE, RetouchSettings
from ..patching.layout_and_retouch.step_blended import StepBlendedGuider
from ..patching.layout_and_retouch.switch import Switch
from ..patching.pick_and_draw import settings as guidance
from ..patching.pick_and_draw.build import guide
from ..patching.pick_and_draw.build_palette import Picture, build_palette
from ..patching.pick_and_draw.palette import Palette
from ..patching.tinyland import subject as demo_subject
from ..patching.tinyland import transformer
from ..patching.tinyland.model import read_weights
from . import generate
from .bases import LORA, words
from .grid import Grid, GridPrompt, renders
from .kept import Kept
from .sweep import Sweep

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

PLAIN, APPENDED, COUPLED, UNCOUPLED, GUIDED = "plain", "append", "joint", "uncoupled", "guided"
LORA_ALONE, BLENDED = "lora", "blended"
ROWS = (
    PLAIN,
    *(f"{APPENDED}, {where}" for where in POSITIONS),
    UNCOUPLED,
    *(f"{COUPLED}, {where}" for where in POSITIONS),
    GUIDED,
)
PERSONAL_ROWS = (LORA_ALONE, BLENDED)
"""Rows of the subjects that have a LoRA."""
NODE = "bench"


@dataclass(frozen=True)
class Recipe:
    """Settings, which nobody has tuned: `late` blocks are what the nodes choose for a transformer.

    pictures: number of references. strength: of the LoRA. switch_step: vanilla steps of step-blended sampling.
    """

    blocks: str = "late"
    pictures: int = 1
    weight: float = 1.0
    appearance_window: tuple[float, float] = (0.3, 0.7)
    step_size: float = 0.1
    threshold: float = 0.3
    strength: float = 1.0
    switch_step: int = 8


@dataclass
class Drawn:
    """Latents of each row for one subject, one prompt and a batch of seeds."""

    weights: Path
    settings: generate.Settings = field(default_factory=lambda: generate.Settings(scheduler="simple"))
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        self.model, self.clip, self.vae = transformer.load(self.weights, None, generate.DTYPE)
        self.encode = generate.TextEncoder(self.clip)
        self._references: dict[str, References] = {}
        self._palettes: dict[str, Palette] = {}

    def references(self, subject: PersonalSubject) -> References:
        """First pictures of the subject, with a caption that names its class alone."""
        if subject.name not in self._references:
            text = self.encode([neutral_caption(subject.subject.name)])
            made = references(self._photos(subject), self.vae, text, NOISED, 0, None, self.recipe.weight, NODE)
            self._references[subject.name] = made
        return self._references[subject.name]

    def latents(self, name: str, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int]) -> torch.Tensor:
        kind, _, positions = name.partition(", ")
        noun = where.text(subject.subject.name)
        if kind == PLAIN:
            return self._plain(self.model, noun, seeds)
        if kind == APPENDED:
            return self._plain(self.appended(subject, positions), noun, seeds)
        if kind in (COUPLED, UNCOUPLED):
            guider = self._joint(subject, noun, positions or BESIDE, 1.0 if kind == COUPLED else 0.0)
            return generate.latents(guider, seeds, self.settings)
        if kind == GUIDED:
            return self._plain(self._guide(subject, noun), noun, seeds)
        personal, text = self.personalized(subject), where.text(words(LORA, subject))
        if kind == LORA_ALONE:
            return self._plain(personal, text, seeds)
        guider = StepBlendedGuider(self.model, personal, Switch(steps=self.recipe.switch_step), NODE, "")
        guider.set_blended_conds(self.encode([noun]), self.encode([text]), self.encode([""]))
        guider.set_cfg(self.settings.cfg)
        return generate.latents(guider, seeds, self.settings)

    def appended(self, subject: PersonalSubject, positions: str) -> ModelPatcher:
        """The MODEL with the keys and values of references after its own, at every step."""
        settings = RetouchSettings(
            early_swap=NONE,
            lambda_2=0,
            lambda_3=0,
            blocks=self.recipe.blocks,
            attention=APPEND,
            mode=BANKED,
            positions=positions,
        )
        return retouch(self.model, self.references(subject), None, None, settings)

    def personalized(self, subject: PersonalSubject) -> ModelPatcher:
        """The MODEL with the subject's LoRA."""
        path = demo_subject.of_transformer(subject.name, self.weights)
        tensors, _ = read_weights(path, demo_subject.TRANSFORMER_SUBJECT, NODE)
        patched = comfy.sd.load_lora_for_models(self.model, None, tensors, self.recipe.strength, 0.0)[0]
        assert patched is not None
        return patched

    def sample(self, names: Sequence[str], grid: Grid, kept: Kept | None = None) -> dict[str, np.ndarray]:
        """Pictures [subjects, prompts, seeds, size, size, 3] uint8 by row."""
        found = {}
        for name in names:
            cell, label = partial(self.cell, name), self._label(name, grid)
            found |= grid.sample_cells((name,), cell, self.vae, kept, label)
        return found

    def sweep(self, name: str, grid: Grid, kept: Kept) -> Sweep:
        """Cells of a row."""
        return Sweep((name,), partial(self.cell, name), self.vae, grid, kept, self._label(name, grid))

    def cell(
        self, name: str, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """Latents of a cell by the name of its row."""
        return {name: self.latents(name, subject, where, seeds)}

    def _label(self, name: str, grid: Grid) -> str:
        if name not in PERSONAL_ROWS:
            return "transformer"
        return f"transformer-{digest(*(demo_subject.of_transformer(s.name, self.weights) for s in grid.subjects))}"

    def _photos(self, subject: PersonalSubject) -> torch.Tensor:
        return torch.from_numpy(renders(subject.training_scenes()[: self.recipe.pictures])).float() / 255

    def _plain(self, model: ModelPatcher, text: str, seeds: Sequence[int]) -> torch.Tensor:
        guider = CFGGuider(model)
        guider.set_conds(self.encode([text]), self.encode([""]))
        guider.set_cfg(self.settings.cfg)
        return generate.latents(guider, seeds, self.settings)

    def _joint(self, subject: PersonalSubject, text: str, positions: str, strength: float) -> CFGGuider:
        cfg = self.settings.cfg
        return joint_guider(
            self.model,
            prompts=[self.encode([text])],
            negative=self.encode([""]),
            references=[self.references(subject)],
            captions=[],
            widgets=Widgets(cfg, JOINT, cfg, strength, AUTOMATIC, FRESH, AUTOMATIC, positions=positions),
            node=NODE,
            pictures=1,
        )

    def _palette(self, subject: PersonalSubject) -> Palette:
        if subject.name not in self._palettes:
            r, noun = self.recipe, subject.subject.name
            picture = Picture(
                text=neutral_caption(noun),
                word=noun,
                threshold=r.threshold,
                map_blocks=r.blocks,
                image=self._photos(subject),
                vae=self.vae,
            )
            made = build_palette(
                self.model, self.clip, picture, source=NOISED, seed=0, weight=1.0, blocks=r.blocks, window=ALWAYS
            )
            self._palettes[subject.name] = made.palette
        return self._palettes[subject.name]

    def _guide(self, subject: PersonalSubject, text: str) -> ModelPatcher:
        """The MODEL guided by the appearance loss."""
        r = self.recipe
        widgets = guidance.Widgets(
            text=text,
            word=subject.subject.name,
            appearance_weight=1.0,
            appearance_start=r.appearance_window[0],
            appearance_end=r.appearance_window[1],
            layout_weight=0.0,
            layout_start=0.0,
            layout_end=0.0,
            layout_blocks=r.blocks,
            direction="gen_to_ref",
            step="relative",
            step_size=r.step_size,
            iterations=1,
            every=1,
            threshold=r.threshold,
            map_blocks=r.blocks,
        )
        return guide(self.model, self.clip, self._palette(subject), None, widgets)[0]
