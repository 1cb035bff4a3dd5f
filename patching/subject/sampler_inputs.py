"""Inputs of LikenessSampler, and the plain sampling that its methods start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import comfy.samplers
import torch

from ..features.bank import digest_of
from ..host.identity import Identity, identity_of
from ..host.notices import Notices
from ..host.passes import GUIDANCE_FUNCTIONS, sample, schedule
from ..host.prompt import SubjectPrompt
from ..host.run import KEY
from ..host.same import same, same_model
from ..host.window import steps_before
from .sampler_settings import NEUTRAL_PROMPT
from .subject import Subject

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.samplers import CFGGuider
    from comfy.sd import VAE

NODE = "Likeness Sampler"


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Inputs of one execution. likeness: 0 to 1. layout: one of LAYOUTS. mask: the drawn one.

    target_prompt: one of TARGET_PROMPTS.
    """

    model: ModelPatcher
    vae: VAE | None
    subject: Subject
    prompt: SubjectPrompt
    latent: dict
    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    likeness: float
    layout: str
    notices: Notices
    personalized_model: ModelPatcher | None = None
    mask: torch.Tensor | None = None
    denoise: float = 1.0
    target_prompt: str = NEUTRAL_PROMPT

    @property
    def target(self) -> ModelPatcher:
        """The model that draws the picture."""
        return self.model if self.personalized_model is None else self.personalized_model

    @property
    def positive(self) -> list:
        """The prompt of the picture."""
        return self.prompt.personalized_conditioning

    @cached_property
    def personalized(self) -> bool:
        """True where the model or the prompt knows the subject, so that the vanilla model draws another picture."""
        return not (same_model(self.model, self.target) and same(self.prompt.vanilla_conditioning, self.positive))

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The run's falling noise levels, one per step."""
        sigmas = schedule(self.target, self.steps, self.sampler, self.scheduler, self.denoise)
        return tuple(float(s) for s in sigmas[:-1])

    def steps_before(self, percent: float) -> int:
        """The number of the run's steps that begin before a fraction of sampling."""
        return steps_before(percent, self.levels, self.target.get_model_object("model_sampling"))

    @cached_property
    def identities(self) -> tuple[Identity, Identity]:
        """Those of the vanilla model and of the target."""
        return identity_of(self.model), identity_of(self.target)

    @property
    def key(self) -> tuple:
        """Everything that a layout of this run depends on."""
        texts = (self.prompt.vanilla_conditioning, self.positive, self.prompt.negative_conditioning)
        pictures = (self.latent["samples"], self.latent.get("noise_mask"))
        return (
            *(identity.name for identity in self.identities),
            *(digest_of(text) for text in texts),
            *(self.prompt.vanilla, self.prompt.personalized),
            *(None if p is None else digest_of([[p, {}]]) for p in pictures),
            tuple(self.latent.get("batch_index") or ()),
            *(self.seed, self.steps, self.cfg, self.sampler, self.scheduler, self.denoise),
        )

    @property
    def lasts(self) -> bool:
        """True where a later run can recognize both models."""
        return all(identity.lasts for identity in self.identities)

    @property
    def repeats(self) -> bool:
        """True where a later run can draw the same layout: identities leave out guidance and this pack's patches."""
        return self.lasts and not any(_is_guided(model) for model in (self.model, self.target))

    def guider(self, model: ModelPatcher, positive: Sequence) -> CFGGuider:
        """KSampler's guider of a model and a prompt."""
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, self.prompt.negative_conditioning)
        guider.set_cfg(self.cfg)
        return guider

    def sample(self, guider: CFGGuider) -> dict:
        """The LATENT that a guider gives, with KSampler's noise and schedule."""
        return sample(
            guider,
            self.latent,
            seed=self.seed,
            steps=self.steps,
            sampler=self.sampler,
            scheduler=self.scheduler,
            denoise=self.denoise,
            node=NODE,
        )


def _is_guided(model: ModelPatcher) -> bool:
    own = any(calls.get(KEY) for calls in model.wrappers.values())
    return own or any(model.model_options.get(name) for name in GUIDANCE_FUNCTIONS)
