"""Pick-and-Draw's guidance (arXiv 2401.16762) as a patch of MODEL: at guided steps, the latent is moved before it is denoised."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from ...kernels.pick_and_draw import RELATIVE, denoised_shift
from ...kernels.uremd import GEN_TO_REF
from .bank import weights_of
from .blocks import Layer
from .families import Family
from .frozen_autograd import refuse_compiled
from .guidance_run import GuidanceRun, Term
from .loss_log import LossLog
from .palette import Palette, fill
from .run_state import Evaluate, RunState, Step
from .template import Template
from .window import Window
from .words import WordTokens

__all__ = ["NODE", "Term", "UREMDGuidance"]
NODE = "UREMDGuidance"


@dataclass(frozen=True, eq=False)
class UREMDGuidance:
    """The patch. words: the subject's in the guided prompt; map_layers: whose attention to them, above `threshold` after stretching to
    0..1, is the generated subject; step_size, step_kind: as in `kernels.pick_and_draw.step_of_gradient`; iterations: gradient steps per
    guided step; every: of the steps in a window, only each so manieth is guided."""

    family: Family
    words: WordTokens
    map_layers: tuple[Layer, ...]
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

    def prepare(self, guider, noise: torch.Tensor, latent_image: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        """Checks the run before it starts and computes the palette's missing features, with the model that will be guided."""
        model = guider.model_patcher
        refuse_compiled(model, self.node)
        images = len(noise)
        if self.template is not None and self.template.images not in (1, images):
            raise ValueError(
                f"{self.node}: expected a template of 1 image or {images}, as the sampler's latent, got {self.template.images}; "
                "give LayoutTemplate and the sampler one latent."
            )
        state = RunState.of(guider.model_options["transformer_options"])
        assert state is not None
        sampling = model.get_model_object("model_sampling")
        run = GuidanceRun(self, images, weights_of(model), sigmas.tolist(), sampling)
        if self.palette is not None and run.palette_levels:
            fill(self.palette, model, run.palette_levels, [s for s in run.sigmas if s > 0], self.node)
        self.log.start(run.levels)
        state.at_end(self.log.finish)
        state.recall((self, "run"), lambda: run)
        return noise

    def __call__(self, step: Step, evaluate: Evaluate) -> list[torch.Tensor]:
        if step.x.requires_grad:  # another guidance reads the network
            return evaluate(step)
        run: GuidanceRun = step.state.recall((self, "run"), _never)
        if not run.guides(step.sigma):
            return evaluate(step)
        moved = run.moved(step, evaluate)
        shift = denoised_shift(step.x - moved, step.sigma, run.level_after(step.sigma))
        return [denoised + shift for denoised in evaluate(replace(step, x=moved))]


def _never():
    raise RuntimeError(f"{NODE}: expected a run that was prepared, got a model call outside of one; sample with one of ComfyUI's guiders.")
