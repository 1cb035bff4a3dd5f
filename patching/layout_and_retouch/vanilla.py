"""The layout's first steps, run again by the vanilla model before a retouch begins (arXiv 2407.09779, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..features.bank import OUTPUT
from ..features.host_memory import sent
from ..features.taps import BankSink, OutputTap
from ..features.trajectory import Trajectory
from ..host.attach import attach, bare
from ..host.blocks import Block
from ..host.checks import check_models, check_text, single
from ..host.family import Family
from ..host.passes import Denoise, run_pass
from ..host.run import RunInputs
from ..host.window import SAME_LEVEL
from .settings import NODE
from .vanilla_attention import VanillaFeatures, VanillaReading

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..features.lending import Lending
    from .run import RetouchRun

_LENT = (
    "the layout is followed loosely, because the vanilla model drew its first {tau} model calls and early_swap {early} "
    "borrows from the personalized model there; connect vanilla_model, or set early_swap to fork."
)
_IDLE = (
    "no effect of vanilla_model, because no step borrows or blends features of a layout that the vanilla model drew; "
    "set early_swap to qkv_both and connect the TRAJECTORY of a Two-Model Sampler, or disconnect vanilla_model."
)
_UNLIKE_SENTENCE = (
    "the layout is followed loosely, because the model at vanilla_model does not give the answers that the layout's "
    "run recorded; connect the model and the positive of the Two-Model Sampler that made the layout."
)


@dataclass(frozen=True, eq=False)
class Vanilla:
    """The vanilla model of a layout's first steps. conditioning: its prompt, None for the one that was recorded."""

    model: ModelPatcher
    conditioning: list | None = None

    def prompts(self, layout: Trajectory) -> tuple[list, list]:
        """The prompts of both sides. Raises ValueError where they are unknown or more than one plain text."""
        positive = self.conditioning or layout.vanilla_positive
        if not positive:
            raise ValueError(
                f"{NODE}: expected the vanilla model's prompt, got a trajectory without it; connect the prompt of the "
                "Two-Model Sampler's positive to vanilla_conditioning."
            )
        negative = layout.vanilla_negative or layout.negative
        for name, prompt in (("vanilla_conditioning", positive), ("negative prompt of the layout", negative)):
            single(prompt, NODE, name)
            check_text(self.model, prompt, name, NODE)
        return positive, negative

    def check(self, personalized: ModelPatcher) -> None:
        """Raises ValueError for a model of another family than the retouched one."""
        check_models(self.model, personalized, NODE)


def read_vanilla(
    vanilla: Vanilla,
    layout: Trajectory,
    *,
    family: Family,
    every: tuple[Block, ...],
    blended: tuple[Block, ...],
    calls: Sequence[int],
    blends: Sequence[int],
    early: str,
    inputs: RunInputs,
) -> VanillaFeatures:
    """Runs the vanilla model on the layout's own latents.

    every, blended: blocks to borrow from and blocks to blend. calls, blends: the layout's calls for each.
    """
    features, positive_negative = VanillaFeatures(early), vanilla.prompts(layout)
    for wanted, reading in (
        (calls, VanillaReading(family, every, features)),
        (blends, OutputTap(NODE, family, blended, BankSink(OUTPUT, "", features.outputs)) if blended else None),
    ):
        if not wanted or reading is None:
            continue
        positive, negative = positive_negative

        def observe(denoise: Denoise, clean: torch.Tensor, wanted: Sequence[int] = wanted) -> None:
            for i in wanted:
                features.reading = i
                denoise(sent(layout.latents[i], clean), layout.sigmas[i])

        batch = len(layout.latents[0])
        image, mask = inputs.latent_image, inputs.denoise_mask
        run_pass(
            attach(bare(vanilla.model), reading),
            positive,
            torch.zeros_like(layout.latents[0]) if image is None else image[:batch],
            [layout.sigmas[i] for i in wanted],
            observe,
            negative=negative,
            denoise_mask=None if mask is None else mask[:batch, :1],
        )
    features.arrive()
    return features


def prepare_vanilla(
    vanilla: Vanilla | None, run: RetouchRun, lending: Lending, every: tuple[Block, ...], inputs: RunInputs
) -> tuple[VanillaFeatures | None, str]:
    """The vanilla model's part of a run that is about to start, and what is to be told of it.

    lending: whose blocks are blended. every: the network's blocks.
    """
    layout, settings = run.layout, run.settings
    drawn = _calls_of_vanilla(layout, run) if isinstance(layout, Trajectory) else []
    borrowed = [i for i, early in drawn if early and settings.follows_live]
    if vanilla is None:
        return None, _LENT.format(early=settings.early_swap, tau=len(drawn)) if borrowed else ""
    assert isinstance(layout, Trajectory) or not drawn
    blended = [
        i
        for i, _ in drawn
        if run.mask_blends and run.blends(layout.sigmas[i]) and not run.layout_is_known(layout.sigmas[i], True)
    ]
    if not borrowed and not blended:
        return None, _IDLE
    assert isinstance(layout, Trajectory)
    features = read_vanilla(
        vanilla,
        layout,
        family=lending.family,
        every=every,
        blended=lending.blocks,
        calls=borrowed,
        blends=blended,
        early=settings.early_swap,
        inputs=inputs,
    )
    return features, _UNLIKE_SENTENCE if borrowed and features.unlike(layout) else ""


def _calls_of_vanilla(layout: Trajectory, run: RetouchRun) -> list[tuple[int, bool]]:
    """The vanilla model's calls within a run, and if each belongs to a step before lambda_2."""
    steps, lambda_2 = layout.step_levels, run.settings.lambda_2
    early = layout.calls_above(steps[lambda_2]) if lambda_2 < len(steps) else len(layout)
    top = run.levels[0] * SAME_LEVEL
    return [
        (i, i < early)
        for i, sigma in enumerate(layout.sigmas)
        if layout.switch_sigma < sigma <= top and run.window.contains(sigma)
    ]
