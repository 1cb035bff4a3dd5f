"""Pick-and-Draw's guidance (arXiv 2401.16762) as a patch of MODEL: at guided steps, the latent is moved before it is
denoised."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import comfy.sampler_helpers
import torch

from ...kernels.pick_and_draw import RELATIVE
from ...kernels.uremd import GEN_TO_REF
from ..features.bank import weights_of
from ..host.blocks import Layer
from ..host.family import Family
from ..host.frozen_autograd import refuse_cached, refuse_compiled
from ..host.run import Evaluate, RunState, Step
from ..host.window import Window
from ..host.words import WordTokens
from .loss_log import LossLog
from .palette import Palette, fill
from .run import GuidanceRun, Term
from .template import Template

__all__ = ["NODE", "Term", "UREMDGuidance"]
NODE = "UREMDGuidance"


@dataclass(frozen=True, eq=False)
class UREMDGuidance:
    """The patch. words: the subject's in the guided prompt, which is encoded as `prompt`; map_layers: whose attention
    to them, above `threshold` after stretching to 0..1, is the generated subject; step_size, step_kind: as in
    `kernels.pick_and_draw.step_of_gradient`; iterations: gradient steps per guided step; every: of the steps in a
    window, only each so manieth is guided."""

    family: Family
    words: WordTokens
    map_layers: tuple[Layer, ...]
    prompt: torch.Tensor | None = None
    palette: Palette | None = None
    template: Template | None = None
    appearance: Term | None = None
    layout: Term | None = None
    threshold: float = 0.3
    direction: str = GEN_TO_REF
    step_size: float = 0.05
    step_kind: str = RELATIVE
    iterations: int = 1
    every: int = 1
    log: LossLog = field(default_factory=LossLog)
    node: str = NODE

    @property
    def window(self) -> Window:
        """From the first to the last percent that a term acts at."""
        windows = [term.window for term in (self.appearance, self.layout) if term is not None]
        return Window(min(w.start_percent for w in windows), max(w.end_percent for w in windows))

    @property
    def batches(self) -> int:
        return 2

    def prepare(
        self,
        guider,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Checks the run before it starts and computes the palette's missing features, with the model that will be
        guided."""
        model = guider.model_patcher
        refuse_compiled(model, self.node)
        refuse_cached(model, self.node)
        if self.template is not None:
            self.template.check(noise, self.node)
        state = RunState.of(guider.model_options["transformer_options"])
        assert state is not None
        sampling = model.get_model_object("model_sampling")
        mask = (
            None
            if denoise_mask is None
            else comfy.sampler_helpers.prepare_mask(denoise_mask, noise.shape, noise.device)
        )
        run = GuidanceRun(self, len(noise), weights_of(model), sigmas.tolist(), sampling, self._prompts(state), mask)
        self._warn(run)
        if self.palette is not None and run.palette_levels:
            fill(self.palette, model, run.palette_levels, [s for s in run.sigmas if s > 0], self.node)
        self.log.start(run.levels)
        state.at_end(self.log.finish)
        state.recall((self, "run"), lambda: run)
        return noise

    def _prompts(self, state: RunState) -> frozenset:
        """The uuids of the run's prompts that say what `prompt` does, so that `words` fits them; of all, where none
        does."""
        entries = [entry for entry in state.prompts() if entry.get("cross_attn") is not None]
        alike = [e for e in entries if self.prompt is None or _alike(e["cross_attn"], self.prompt)]
        if entries and not alike:
            logging.warning(
                "%s: expected text to be the sampler's positive prompt, got another one, so the words may be looked "
                "for in wrong places; write the same into text.",
                self.node,
            )
        guided = alike or entries
        if any(entry.get("area") is not None or entry.get("set_area_to_bounds") for entry in guided):
            raise ValueError(
                f"{self.node}: expected a prompt for the whole picture, got one for an area of it; remove "
                "ConditioningSetArea from the prompt that text repeats, or set set_cond_area of ConditioningSetMask "
                "to default."
            )
        return frozenset(entry.get("uuid") for entry in guided)

    def _warn(self, run: GuidanceRun) -> None:
        """Of a loss that changes nothing."""
        for name in run.idle():
            logging.warning(
                "%s: expected steps between %s_start and %s_end, got none in this run, so that loss does nothing; "
                "change them.",
                self.node,
                name,
                name,
            )

    def __call__(self, step: Step, evaluate: Evaluate) -> list[torch.Tensor]:
        if step.x.requires_grad:  # another guidance reads the network
            return evaluate(step)
        run: GuidanceRun = step.state.recall((self, "run"), _never)
        if not run.guides(step.sigma) or run.is_beside(step):
            return evaluate(step)
        moved = run.moved(step, evaluate)
        shift = run.shift(step, moved)
        return [denoised + shift for denoised in evaluate(replace(step, x=moved))]


def _alike(text: torch.Tensor, other: torch.Tensor) -> bool:
    return text.shape == other.shape and torch.allclose(
        text.float(), other.to(text.device).float(), rtol=0, atol=0.01 * float(text.abs().max())
    )


def _never():
    raise RuntimeError(
        f"{NODE}: expected a run that was prepared, got a model call outside of one; sample with one of ComfyUI's "
        "guiders."
    )
