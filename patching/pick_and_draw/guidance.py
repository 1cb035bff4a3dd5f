"""Pick-and-Draw's guidance (arXiv 2401.16762) as a patch of MODEL: guided steps move the latent before denoising it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import comfy.sampler_helpers
import torch

from ..features.references import keep_for
from ..host.checks import check_latent, refuse_reference_latents
from ..host.frozen_refusals import refuse_cached, refuse_compiled
from ..host.identity import identity_in_run
from ..host.live import Live
from ..host.notices import Notices
from ..host.run import Evaluate, RunState, Step, unprepared
from ..host.schedules import earlier_levels
from ..host.window import ModelSampling, Window, shown_steps
from ..host.words import same_text
from .loss_log import LossLog
from .palette import Palette, fill
from .run import GuidanceRun
from .settings import NODE, GuidanceSettings
from .template import Template

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider


@dataclass(frozen=True, eq=False)
class UREMDGuidance:
    """The patch. prompt: the guided prompt's text features, [1, tokens, width], by which a run finds its entries."""

    settings: GuidanceSettings
    prompt: torch.Tensor | None = None
    palette: Palette | None = None
    template: Template | None = None
    log: LossLog = field(default_factory=LossLog)
    node: str = NODE

    @property
    def window(self) -> Window:
        """The part of sampling in which a term acts."""
        return self.settings.terms.window

    @property
    def notices(self) -> Notices:
        """Those of the node, which also show the losses."""
        return self.log.notices

    @property
    def batches(self) -> int:
        """The memory that a gradient needs, in batches of a plain run."""
        return 2

    def prepare(
        self,
        guider: CFGGuider,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Checks the run before it starts and computes the palette's missing features with the guided model.

        Returns `noise`, [images, channels, height, width], unchanged. Raises ValueError in one sentence.
        """
        model = guider.model_patcher
        refuse_compiled(model, self.node)
        refuse_cached(model, self.node)
        refuse_reference_latents(self.settings.family, guider.conds, self.node)
        check_latent(noise, self.node, model)
        if self.template is not None:
            self.template.check(noise, self.node)
        state = RunState.of(guider.model_options["transformer_options"])
        assert state is not None
        mask = None
        if denoise_mask is not None:
            mask = comfy.sampler_helpers.prepare_mask(denoise_mask, noise.shape, noise.device)
        identity, sampling = identity_in_run(guider), model.get_model_object("model_sampling")
        levels = sigmas.tolist()
        earlier = self._earlier(levels, sampling) if not torch.count_nonzero(noise) else ()
        run = GuidanceRun(
            settings=self.settings,
            palette=self.palette,
            template=self.template,
            log=self.log,
            weights=identity.name,
            sigmas=levels,
            model_sampling=sampling,
            prompts=self._prompts(state),
            mask=mask,
            earlier=earlier,
        )
        self._warn(run)
        for name, term in self.settings.terms._asdict().items():
            names = (f"{name}_start", f"{name}_end")
            shown = "" if term is None else shown_steps(term.window, run.sigmas[:-1], run.model_sampling, names)
            if shown:
                self.notices.inform(shown)
        if self.palette is not None and run.palette_levels:
            schedule = [s for s in run.sigmas if s > 0]
            keep_for(self.palette.references.items, identity, state, self.notices)
            fill(self.palette, model, run.palette_levels, schedule, self.node, identity=identity, notices=self.notices)
        live = Live(self.notices)
        live.steps(_kind(run, s) for s in run.sigmas[:-1])
        self.log.start(run.levels, len(noise), live)
        state.at_end(self.log.finish)
        state.recall((self, "run"), lambda: run)
        state.at_report(lambda: self._report(run))
        return noise

    def _report(self, run: GuidanceRun) -> None:
        """Warns of a run that no step of the sampler has guided."""
        if run.levels and not run.moves:
            self.notices.tell(
                "no effect on this run, because the model was called in none of the guided steps; raise the sampler's "
                "steps, choose a sampler that keeps to the schedule, or let no other node answer in these steps."
            )

    def _earlier(self, sigmas: list[float], model_sampling: ModelSampling) -> tuple[float, ...]:
        """The noise levels of the runs that a run without noise continues, by which `every` counts on."""
        if self.settings.every == 1:
            return ()
        earlier = earlier_levels(sigmas, model_sampling)
        if earlier is None:
            self.notices.tell(
                "the count of every begins with this run, which continues another one of unknown steps; set every to "
                "1, or split sampling after a multiple of it."
            )
        return earlier or ()

    def _prompts(self, state: RunState) -> frozenset:
        """The uuids of the run's prompts that encode the same text as `prompt`; of all prompts where none does."""
        entries = [entry for entry in state.prompts() if entry.get("cross_attn") is not None]
        alike = [e for e in entries if self.prompt is None or same_text(e["cross_attn"], self.prompt)]
        if entries and not alike:
            self.notices.tell(
                "expected text to be the sampler's positive prompt, got another one, so the words may be looked for in "
                "wrong places; write the same into text."
            )
        guided = alike or entries
        return frozenset(entry.get("uuid") for entry in guided)

    def _warn(self, run: GuidanceRun) -> None:
        """Warns of each loss that acts at no step of the run."""
        for name in run.idle():
            self.notices.tell(
                f"expected steps between {name}_start and {name}_end, got none in this run, so that loss does nothing; "
                "change them."
            )
        layout, template = self.settings.terms.layout, self.template
        if layout is not None and template is not None:
            far = template.uncovered([s for s in run.levels if layout in run.acting(s)])
            if far:
                self.notices.tell(
                    "expected a template recorded wherever the layout loss acts, got one without noise levels near "
                    f"{far[0]:.3g}; widen start_percent to end_percent of Layout Template, or narrow layout_start to "
                    "layout_end."
                )

    def __call__(self, step: Step, evaluate: Evaluate) -> list[torch.Tensor]:
        """Denoised latents per conditioning, [images, channels, height, width] each, from the moved latent."""
        if step.x.requires_grad:  # inside another guidance's gradient
            return evaluate(step)
        run: GuidanceRun = step.state.recall((self, "run"), partial(unprepared, self.node))
        if not run.guides(step.sigma) or run.is_side_evaluation(step):
            return evaluate(step)
        moved = run.moved(step, evaluate)
        shift = run.shift(step, moved)
        return [denoised + shift for denoised in evaluate(replace(step, x=moved))]


def _kind(run: GuidanceRun, sigma: float) -> str:
    """Kind of the step at a noise level, for the node's drawing."""
    if sigma not in run.levels:
        return "not guided"
    terms = run.settings.terms._asdict().items()
    return f"guided: {' and '.join(name for name, term in terms if term is not None and run.acts(term, sigma))}"
