"""Layout-and-Retouch, stage 2 (arXiv 2407.09779, Algorithm 1), as a patch of MODEL: attention swapping and mask
blending."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..features.bank import weights_of
from ..features.reference_reading import ReferenceReading
from ..features.references import Reference, References
from ..features.source_rows import SourceRows, aligned, together
from ..features.sources import Source
from ..features.trajectory import Trajectory
from ..host.attach import attach, bare
from ..host.blocks import Block, Layer, layers_of
from ..host.checks import single
from ..host.family import Family
from ..host.rows import indices, take
from ..host.run import Call, Forward, RunState
from ..host.window import ALWAYS, Window
from .run import BANKED, BATCHED, SEQUENTIAL, RetouchRun, prompts_of, reference_role
from .subject_mask import SubjectMask
from .swaps import APPEND, REPLACE, Borrowed, LayoutInputs, LayoutOfSameCall, LayoutSwap, ReferenceSwap, differ

__all__ = [
    "BANKED",
    "BATCHED",
    "FORK",
    "NODE",
    "NONE",
    "QKV_BOTH",
    "QK_BOTH",
    "QK_SELF",
    "SEQUENTIAL",
    "Retouch",
    "prompts_of",
]
NODE = "MultiSourceAttnSwap"
FORK, QKV_BOTH, QK_BOTH, QK_SELF, NONE = "fork", "qkv_both", "qk_both", "qk_self", "none"


@dataclass(frozen=True, eq=False)
class Retouch:
    """The patch. early_steps: lambda_2, steps that follow the layout; blend_step: lambda_3, the first step whose
    background is the layout's; blocks: where references act; every_block: all of the network's, for the early steps."""

    family: Family
    blocks: tuple[Block, ...]
    every_block: tuple[Block, ...]
    references: References | None
    layout: Trajectory | Reference | None = None
    layout_negative: list | None = None
    mask: SubjectMask | None = None
    mask_blocks: tuple[Block, ...] = ()
    early: str = FORK
    early_steps: int = 10
    blend_step: int = 10
    attention: str = REPLACE
    mode: str = SEQUENTIAL
    strength: float = 1.0
    window: Window = ALWAYS
    node: str = NODE

    @property
    def batches(self) -> int:
        references = len(self.references.items) if self.references is not None else 0
        return 1 + references + (self.layout is not None) if self.mode == BATCHED else 1

    def prepare(
        self,
        guider,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Checks the run before it starts, makes its Sources, and gives back the noise to start from: the layout's, if
        it follows one."""
        images, _, height, width = noise.shape
        steps = len(sigmas) - 1
        if self.early_steps > steps or (self.mask is not None and self.blend_step > steps):
            raise ValueError(
                f"{self.node}: expected lambda_2 and lambda_3 within the run's {steps} steps, got {self.early_steps} "
                f"and {self.blend_step}; lower them, or raise the sampler's steps."
            )
        levels = [float(s) for s in sigmas[:-1]]
        state = RunState.of(guider.model_options["transformer_options"])
        assert state is not None
        if isinstance(self.layout, Trajectory):
            self._check_trajectory(self.layout, noise, levels, state.sampler)
        if self.mask is not None:
            self.mask.check(images, height, width)
        self._warn()
        model = bare(guider.model_patcher)
        run = RetouchRun(self, weights_of(guider.model_patcher), images, (height, width), tuple(levels))
        if isinstance(self.layout, Trajectory):
            run.layout_source = self.layout
        elif self.layout is not None:
            run.layout_source = self.layout.source(model, levels, self.node)
        run.negative = state.negative()
        late = [s for s in levels if run.late(s)]
        if self.references is not None and late:
            lent = run.negative if _uses_negative(guider) else None
            run.sources = [
                r.source(model, late, self.node, partial(self._reading, run, r, lent)) for r in self.references.items
            ]
        if self.layout is not None:
            self._check_layout(guider, run, self.layout)
        state.recall((self, "run"), lambda: run)
        # Noise that is partly the layout's would be weaker than noise is: below strength 1 the run keeps its own.
        if run.layout_source is None or self.early == NONE or self.strength < 1:
            return noise
        return _start(guider, noise, latent_image, sigmas, run.layout_source)

    def _reading(self, run: RetouchRun, reference: Reference, lent: list | None, model):
        """The MODEL whose inversion fills a reference's bank, where there is one to fill."""
        if self.mode != BANKED:
            return model
        return attach(
            model, ReferenceReading(self.node, self.family, self.blocks, reference, run.weights, lent, inversion=True)
        )

    def _check_trajectory(self, layout: Trajectory, noise: torch.Tensor, levels: list[float], sampler: str) -> None:
        if not len(layout):
            raise ValueError(
                f"{self.node}: expected a trajectory with model calls, got an empty one; give the layout's sampler "
                "steps."
            )
        given, wanted = layout.latents[0].shape, noise.shape
        if given[1:] != wanted[1:] or given[0] not in (1, wanted[0]):
            raise ValueError(
                f"{self.node}: expected a trajectory of latents {_size(wanted)}, as the sampler's, got {_size(given)}; "
                "give both samplers one latent."
            )
        missing = [s for s in levels if not layout.has(s)]
        if missing:
            raise ValueError(
                f"{self.node}: expected a trajectory with the sampler's noise levels, got none at sigma "
                f"{missing[0]:.4f}; give both samplers the same steps, scheduler and denoise."
            )
        if self.early == FORK and self.early_steps and layout.sampler not in ("", sampler):
            raise ValueError(
                f"{self.node}: expected the layout's sampler, {layout.sampler}, for early_swap {FORK}, got {sampler}, "
                "which would not walk along the layout; give both samplers one sampler, or set early_swap to "
                f"{QKV_BOTH}."
            )

    def _check_layout(self, guider, run: RetouchRun, layout: Trajectory | Reference) -> None:
        """Rows of a layout are run with its prompt alone and with the weights at hand; what is only read may be of any."""
        follows = self.early in (QKV_BOTH, QK_BOTH, QK_SELF) and self.early_steps > 0
        window = self.window.resolve(guider.model_patcher.get_model_object("model_sampling"))
        blended = [s for s in run.levels if run.blends(s) and window.contains(s)] if self.mask is not None else []
        layers = layers_of(self.blocks)
        for sigma in blended:
            if run.of_vanilla(sigma) and not run.layout_is_known(sigma, layers, True):
                run.refuse_vanilla(sigma)
        for flag, name, prompt in zip(
            (True, False), ("positive", "negative"), prompts_of(layout, self.layout_negative), strict=True
        ):
            if follows or not all(run.layout_is_known(s, layers, flag) for s in blended):
                single(prompt, self.node, f"{name} prompt of the layout")

    def _warn(self) -> None:
        weights = [r.weight for r in self.references.items] if self.references is not None else []
        if any(w != 1 for w in weights) and not differ(weights, self.attention):
            logging.warning(
                "%s: a weight of %g changes nothing, because with attention %s a weight counts against other "
                "references only; set attention to %s to weigh the reference against the target.",
                self.node,
                weights[0],
                self.attention,
                APPEND,
            )

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        run: RetouchRun = call.state.recall((self, "run"), _never)
        if run.layout_source is not None and call.x.shape[2:] != run.size:
            raise ValueError(
                f"{self.node}: expected prompts for the whole picture, as the layout has it, got one for an area of "
                f"{8 * call.x.shape[3]} x {8 * call.x.shape[2]} pixels; remove the area from the sampler's prompts, "
                "or disconnect layout."
            )
        if run.mask is None and self.mask is not None:
            run.start_mask(call)
        step = self._late if run.late(call.sigma) else self._early
        if run.mask is not None and run.mask.mask.follows and run.blends_after(call.sigma):
            tap = run.mask.tap(self.family, self.mask_blocks)
            return step(run, call, lambda c: tap(c, forward))
        return step(run, call, forward)

    def _early(self, run: RetouchRun, call: Call, forward: Forward) -> torch.Tensor:
        if run.layout_source is None or self.early == NONE:
            return forward(call)
        if self.early == FORK:
            # Where nothing would differ, the layout's own answer is the target's.
            answer = run.layout_denoised(call).to(call.x).expand(run.images, -1, -1, -1).repeat(call.chunks, 1, 1, 1)
            return answer if self.strength == 1 else torch.lerp(forward(call), answer, self.strength)
        sources = run.layout_rows(call, call.flags)
        targets = len(call.x)
        joint = together(call, sources) if self.mode == BATCHED else None
        if joint is not None:
            inputs = LayoutOfSameCall(targets, aligned(call, sources, run.images))
            return forward(self._following(joint, targets, inputs))[:targets]
        layers = layers_of(self.every_block)
        inputs = run.layout_inputs(call, forward, sources, layers, cross=self.early != QK_SELF)
        return forward(self._following(call, targets, inputs))

    def _following(self, call: Call, targets: int, inputs: LayoutInputs) -> Call:
        """The call with the layout's queries, keys and values in its first rows."""
        layers = layers_of(self.every_block)
        swap = LayoutSwap(targets, self.early == QKV_BOTH, inputs, self.strength)
        options = self.family.change_self_attention(call.options, layers, swap)
        if self.early != QK_SELF:
            options = self.family.change_cross_attention(options, layers, swap.cross_inputs)
        return replace(call, options=options)

    def _late(self, run: RetouchRun, call: Call, forward: Forward) -> torch.Tensor:
        layers = layers_of(self.blocks)
        targets, flags = len(call.x), call.flags
        blend = run.mask is not None and run.layout_source is not None and run.blends(call.sigma)
        mask_run = run.mask
        chunks = targets // run.images

        def mask(size: tuple[int, int]) -> torch.Tensor:
            assert mask_run is not None
            return mask_run.at(call.sigma, size).expand(run.images, -1, -1).repeat(chunks, 1, 1)

        # What the vanilla model made is read in every mode.
        if self.mode == BATCHED and not (blend and run.of_vanilla(call.sigma)):
            layout_rows = run.layout_rows(call, flags) if blend else []
            sides = run.sides(flags)
            reference_rows = [row for i in range(len(run.sources)) for row in run.reference_rows(call, i, sides)]
            sources = [*layout_rows, *reference_rows]
            joint = together(call, sources) if sources else None
            if joint is not None:
                swap = self._joint_swap(run, call, joint, layout_rows, mask if blend else None, flags)
                return forward(self._swapped(joint, layers, swap))[:targets]
        borrowed = run.borrowed(call, forward, layers, flags)
        outputs = run.layout_outputs(call, forward, layers, flags) if blend else None

        def layout(layer: Layer, output: torch.Tensor) -> torch.Tensor:
            assert outputs is not None
            return outputs[layer].to(output)

        swap = ReferenceSwap(
            targets, borrowed, self.attention, self.strength, layout if blend else None, mask if blend else None
        )
        return forward(self._swapped(call, layers, swap))

    def _swapped(self, call: Call, layers: Sequence[Layer], swap: ReferenceSwap) -> Call:
        if swap.weighted and self.family.replaces_self_attention(call.options, layers):
            raise ValueError(
                f"{self.node}: expected references of one weight where another node replaces self-attention in model, "
                f"got {', '.join(f'{b.weight:g}' for b in swap.references)} with attention {self.attention}; set "
                "weight to 1 on LikenessReference, or remove that node."
            )
        return replace(call, options=self.family.change_self_attention(call.options, layers, swap))

    def _joint_swap(
        self, run: RetouchRun, call: Call, joint: Call, layout_rows: list[SourceRows], mask, flags: tuple[bool, ...]
    ) -> ReferenceSwap:
        targets, images = len(call.x), run.images
        borrowed = []
        for i, reference in enumerate(self.references.items if self.references else ()):
            first = {side: indices(joint.rows, reference_role(i), side)[0] for side in run.sides(flags)}
            rows = tuple(first[run.side(flag)] + image for flag in flags for image in range(images))
            borrowed.append(Borrowed(reference.weight, rows=rows, tokens=run.tokens_on(reference, call.x.device)))
        order = aligned(call, layout_rows, images) if layout_rows else ()

        def layout(_: Layer, output: torch.Tensor) -> torch.Tensor:
            return take(output[targets:], order)

        return ReferenceSwap(targets, tuple(borrowed), self.attention, self.strength, layout if mask else None, mask)


def _never():
    raise RuntimeError(
        f"{NODE}: expected a run that was prepared, got a model call outside of one; sample with one of ComfyUI's "
        "guiders."
    )


def _uses_negative(guider) -> bool:
    """Whether the host will call the model with the negative prompt; it does not at guidance scales of 1."""
    scales = [getattr(guider, name) for name in ("cfg", "cfg1", "cfg2") if hasattr(guider, name)]
    used = not scales or any(not math.isclose(scale, 1.0) for scale in scales)
    return used or bool(guider.model_options.get("disable_cfg1_optimization"))


def _size(shape) -> str:
    return f"{shape[0]} x {shape[1]} x {shape[2]} x {shape[3]}"


def _start(
    guider, noise: torch.Tensor, latent_image: torch.Tensor, sigmas: torch.Tensor, layout: Source
) -> torch.Tensor:
    """The noise from which the host will make the layout's latent at the run's first level."""
    model = guider.model_patcher
    sampling = model.get_model_object("model_sampling")
    first = sigmas[0]
    inside = latent_image
    if torch.count_nonzero(latent_image):
        inside = model.model.process_latent_in(latent_image)
    largest = float(sampling.sigma_max)
    fully = math.isclose(largest, float(first), rel_tol=1e-05) or float(first) > largest
    base = sampling.noise_scaling(first, torch.zeros_like(noise), inside, fully)
    unit = sampling.noise_scaling(first, torch.ones_like(noise), torch.zeros_like(inside), fully)
    wanted = layout.at(float(first)).to(noise).expand_as(noise)
    return (wanted - base) / unit
