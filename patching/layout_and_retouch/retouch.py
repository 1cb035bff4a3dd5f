"""Layout-and-Retouch, stage 2 (arXiv 2407.09779, Algorithm 1), as a patch of MODEL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from ..features.host_memory import sent
from ..features.lending import BANKED, BATCHED, SEQUENTIAL, Lending
from ..features.looking import Looks, View
from ..features.references import Reference, keep_for
from ..features.shared_attention import Borrowed
from ..features.source_rows import aligned, call_with
from ..features.trajectory import Trajectory
from ..host.attach import bare
from ..host.blocks import Block, Layer, layers_of
from ..host.checks import check_latent
from ..host.identity import identity_in_run
from ..host.live import Live
from ..host.notices import Notices
from ..host.predictions import Answer, Predict, Prediction
from ..host.previews import pixels_per_latent
from ..host.rows import take
from ..host.run import Call, Forward, RunState, unprepared
from ..host.window import ModelSampling, Window, shown_steps
from .checks import (
    check_beginning,
    check_fork_window,
    check_layout,
    check_steps,
    check_trajectory,
    warn_of_idle_weights,
)
from .idle import counted_steps, expected_parts, first_mask, idle_steps, tell_unmet, unused_guidance
from .looking import late_alone, reference_looks, view_of
from .mask import SubjectMask
from .path import path_of, reached, starting_noise
from .run import RetouchRun
from .settings import FORK, NODE, NONE, QK_SELF, QKV_BOTH, Layout, RetouchSettings
from .swaps import LayoutInputs, LayoutOfSameCall, LayoutOutput, LayoutSwap, RecordedLayout, ReferenceSwap
from .vanilla import Vanilla, prepare_vanilla

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider


@dataclass(frozen=True, eq=False)
class Retouch:
    """The patch of MODEL that runs Algorithm 1 of Layout-and-Retouch (arXiv 2407.09779).

    lending: the references, and the blocks where they and the mask act. every_block: all of the network's, for the
    early steps. layout_negative: CONDITIONING for a layout that is a picture. mask_blocks: whose attention the mask
    follows. vanilla: the model of the layout's first steps. looks: records where a point of the first picture looks.
    """

    settings: RetouchSettings
    lending: Lending
    every_block: tuple[Block, ...]
    layout: Layout | None = None
    layout_negative: list | None = None
    mask: SubjectMask | None = None
    mask_blocks: tuple[Block, ...] = ()
    vanilla: Vanilla | None = None
    notices: Notices = field(default_factory=lambda: Notices(NODE), compare=False)
    looks: Looks | None = None

    @property
    def node(self) -> str:
        return self.lending.node

    @property
    def window(self) -> Window:
        return self.settings.window

    @property
    def changed_blocks(self) -> tuple[Block, ...]:
        """The blocks whose attention it computes in some step."""
        return self.every_block if self.settings.follows_live and self.layout is not None else self.lending.blocks

    @property
    def batches(self) -> int:
        live_layout = self.settings.mode == BATCHED and self.layout is not None
        return self.lending.batches + live_layout

    def prepare(
        self,
        guider: CFGGuider,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Checks the run, prepares layout and references, and returns the noise to start from.

        noise: [images, channels, height, width], replaced by the layout's where the run follows a layout. Raises
        ValueError for a video, and for a layout or mask that does not fit the run.
        """
        check_latent(noise, self.node, guider.model_patcher)
        falling, images, (height, width) = sigmas.tolist(), len(noise), noise.shape[-2:]
        levels = tuple(falling[:-1])
        sampling: ModelSampling = guider.model_patcher.get_model_object("model_sampling")
        steps = self.layout.step_levels if isinstance(self.layout, Trajectory) else levels
        settings = self.settings.counted(steps, sampling)
        state = RunState.of(guider.model_options["transformer_options"])
        assert state is not None
        if isinstance(self.layout, Trajectory):
            check_trajectory(self.layout, noise, levels, settings, state.sampler, self.mask is not None)
        if self.mask is not None:
            self.mask.check(images, height, width, pixels_per_latent(guider.model_patcher.model.latent_format))
            self.mask.check_prompts(state.prompts())
        warn_of_idle_weights([r.weight for r in self.lending.references], settings.append, self.notices)
        source, identity = self.layout, identity_in_run(guider)
        if isinstance(source, Reference):
            source = source.sized(height, width, self.node)
        layout = source
        if source is not None and (source.inverted or settings.mode == BANKED):
            keep_for([source], identity, state, self.notices)
        if source is not None and not isinstance(source, Trajectory):
            check_beginning(settings, noise)
            source = source.source(bare(guider.model_patcher), levels, self.node, identity)
        exact = settings.early_swap == FORK and settings.strength == 1
        path = None
        if source is not None:
            path = path_of(source, levels, state.sampler, strict=exact and denoise_mask is None)
        check_steps(settings, len(steps), self.mask is not None)
        window = self.window.resolve(sampling)
        early = [s for s in levels if not reached(steps, settings.lambda_2, s)]
        if path is not None:
            check_fork_window(settings, window, early)
        run = RetouchRun(
            settings=settings,
            lender=self.lending.prepare(guider, [s for s in levels if s not in early], self.notices, window),
            size=(height, width),
            levels=levels,
            layout=layout,
            layout_negative=self.layout_negative,
            window=window,
            path=path,
            mask_blends=self.mask is not None,
        )
        run.vanilla, told = prepare_vanilla(self.vanilla, run, self.lending, self.every_block, state.inputs)
        continued = not torch.count_nonzero(noise)
        counted = counted_steps(settings, len(steps), self.mask is not None) if settings.by_percent else ""
        shown = shown_steps(self.window, levels, sampling)
        for fact in (counted, shown, unused_guidance(run, guider), first_mask(run, self.mask, continued)):
            if fact:
                self.notices.inform(fact)
        idle = idle_steps(run, falling, continued, len(self.lending.references))
        for sentence in (*([told] if told else []), *idle):
            self.notices.tell(sentence)
        if self.layout is not None:
            check_layout(run, self._blended_levels(run))
        Live(self.notices).steps(run.kind_of(s) for s in levels if s > 0)
        state.recall((self, "run"), lambda: run)
        state.at_report(partial(tell_unmet, run, expected_parts(run, len(self.lending.references)), self.notices))
        # Mixing two noises lowers their variance, so below strength 1 the run keeps its own.
        if source is None or settings.early_swap == NONE or settings.strength < 1 or levels[0] not in early:
            return noise
        if exact and isinstance(source, Trajectory):
            state.seed = source.seed
        return starting_noise(guider, noise, latent_image, sigmas, source, denoise_mask)

    @property
    def looking_layers(self) -> tuple[Layer, ...]:
        """The layers in which the target looks at the references."""
        return layers_of(self.lending.blocks)

    def view(self, guider: CFGGuider, samples: torch.Tensor, looks: Looks, node: str) -> View:
        """See `features.looking.Viewed`. Layout and mask are left out: a finished picture has its layout."""
        late = replace(
            self,
            settings=late_alone(self.settings),
            lending=replace(self.lending, mode=SEQUENTIAL, every=1),
            layout=None,
            layout_negative=None,
            mask=None,
            mask_blocks=(),
            vanilla=None,
            notices=Notices(NODE),
        )
        return view_of(
            lambda seen: replace(late, looks=seen),
            self.lending.references,
            guider=guider,
            samples=samples,
            looks=looks,
            window=self.window,
            node=node,
        )

    def _blended_levels(self, run: RetouchRun) -> list[float]:
        """The noise levels at which the layout is blended in."""
        return [] if self.mask is None else [s for s in run.levels if run.blends(s) and run.window.contains(s)]

    def answer(self, prediction: Prediction, predict: Predict) -> torch.Tensor:
        """Answers the steps that fork, with the layout's answers in place of the model's."""
        run: RetouchRun = prediction.state.recall((self, "run"), partial(unprepared, self.node))
        path, strength = run.path, self.settings.strength
        if path is None:
            return predict(prediction)
        path.advance(prediction.sigma)
        path.check(prediction.x)
        if not run.forks(prediction.sigma):
            return predict(prediction)
        prediction.state.note(self, True)
        answer = path.answer(prediction.sigma).each(lambda t: sent(t, prediction.x).expand_as(prediction.x))
        if strength < 1:
            watched, sides = prediction.watched()
            denoised = predict(watched)
            answer = Answer(denoised, *sides.found).toward(answer, strength)
        prediction.tell(answer)
        return answer.denoised

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        run: RetouchRun = call.state.recall((self, "run"), partial(unprepared, self.node))
        if run.mask is None and self.mask is not None:
            run.start_mask(self.mask, call)
        run.refuse_parts(call)
        step = self._late if run.enters(call.sigma) else self._early
        if run.mask is not None and run.reads_maps(call.sigma):
            tap = run.mask.tap(self.lending.family, self.mask_blocks)
            return step(run, call, lambda c: tap(c, forward))
        return step(run, call, forward)

    def _early(self, run: RetouchRun, call: Call, forward: Forward) -> torch.Tensor:
        """A step before lambda_2, which follows the layout."""
        settings, targets = self.settings, len(call.x)
        if run.path is None or settings.early_swap == NONE:
            return forward(call)
        if settings.early_swap == FORK:
            if not run.path.started:
                raise ValueError(
                    f"{NODE}: expected a guider whose predictions patches can answer for early_swap {FORK}, got one "
                    f"that hides them; sample with CFGGuider, or set early_swap to {QKV_BOTH}."
                )
            return forward(call)
        layers = layers_of(self.every_block)
        vanilla = run.vanilla_swap(call)
        if vanilla is not None:
            return forward(replace(call, options=vanilla.applied(call.options, self.lending.family, layers)))
        if settings.mode == BATCHED:
            sources = run.layout_rows(call, call.flags, own=False)
            joint = call_with(call, sources)
            if joint is not None:
                inputs = LayoutOfSameCall(targets, aligned(call, sources))
                return forward(self._following(joint, targets, inputs))[:targets]
        cross = settings.early_swap != QK_SELF
        inputs = RecordedLayout(*run.layout_inputs(call, forward, layers, cross))
        return forward(self._following(call, targets, inputs))

    def _following(self, call: Call, targets: int, inputs: LayoutInputs) -> Call:
        """The call with the layout's queries, keys and values in its first rows."""
        layers, family, early = layers_of(self.every_block), self.lending.family, self.settings.early_swap
        swap = LayoutSwap(targets, early == QKV_BOTH, inputs, self.settings.strength)
        options = family.change_self_attention(call.options, layers, swap)
        if early != QK_SELF:
            options = family.change_cross_attention(options, layers, swap.cross_inputs)
        return replace(call, options=options)

    def _late(self, run: RetouchRun, call: Call, forward: Forward) -> torch.Tensor:
        """A step from lambda_2 on, which borrows from the references and blends the layout in under the mask."""
        targets, blends = len(call.x), run.mask is not None and run.path is not None and run.blends(call.sigma)
        # Features of the vanilla model are read from the layout's bank in every mode.
        if self.settings.mode == BATCHED and not (blends and run.of_vanilla(call.sigma)):
            rows = run.layout_rows(call, call.flags, own=False) if blends else []
            shared = run.lender.same_call(call, rows)
            if shared is not None:
                joint, borrowed = shared
                order = aligned(call, rows) if blends else ()

                def layout_rows(_: Layer, output: torch.Tensor) -> torch.Tensor:
                    return take(output[targets:], order)

                swap = self._swap(run, call, borrowed, layout_rows if blends else None)
                return forward(run.lender.changed(joint, swap))[:targets]
        borrowed = run.lender.own_calls(call, forward)
        outputs = run.layout_outputs(call, forward) if blends else {}

        def layout(layer: Layer, output: torch.Tensor) -> torch.Tensor:
            return outputs[layer].to(output.dtype)

        swap = self._swap(run, call, borrowed, layout if blends else None)
        return forward(run.lender.changed(call, swap))

    def _swap(
        self, run: RetouchRun, call: Call, borrowed: tuple[Borrowed, ...], layout: LayoutOutput | None
    ) -> ReferenceSwap:
        return ReferenceSwap(
            targets=len(call.x),
            references=borrowed,
            append=self.settings.append,
            strength=self.settings.strength,
            layout=layout,
            mask=None if layout is None else run.mask_of(call),
            looks=reference_looks(self.looks, run.lender, call),
        )
