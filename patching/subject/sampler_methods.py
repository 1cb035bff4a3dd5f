"""Methods of LikenessSampler: each makes the guider that the expert nodes of its paper make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ...kernels.pick_and_draw import RELATIVE
from ...kernels.uremd import DIRECTIONS
from ..features.references import Reference, References
from ..host.checks import empty_prompt
from ..jedi import build as joint
from ..jedi.run import FRESH
from ..jedi.run import JOINT as TOGETHER
from ..layout_and_retouch.build import retouch
from ..layout_and_retouch.settings import NONE, PERCENT, QKV_BOTH, RetouchSettings
from ..pick_and_draw.build import guide
from ..pick_and_draw.build_palette import AVERAGE, PER_LEVEL
from ..pick_and_draw.settings import Widgets
from .borrowing import members_of, palette_of, reads_more, reference_of
from .faded import faded
from .sampler_checks import is_joint
from .sampler_families import source_of, suited
from .sampler_inputs import NODE, Inputs
from .sampler_layout import LAYOUT_KIND, TEMPLATE_KIND, adaptive_mask, retouch_layout, template_of
from .sampler_report import Report
from .sampler_settings import (
    APPEARANCE,
    DRAWN,
    JOINT,
    LAMBDA,
    NEUTRAL_PROMPT,
    OWN,
    PALETTE,
    RETOUCH,
    STEP_SIZE,
    TEMPLATE,
    TEMPLATE_END,
    THRESHOLD,
)
from .subject import ATTENTION

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.samplers import CFGGuider

    from ..pick_and_draw.palette import Palette
    from ..pick_and_draw.template import Template


def by_palette(inputs: Inputs, report: Report) -> CFGGuider:
    """Palette guidance: Appearance Palette, Layout Template and Subject Guidance (Pick-and-Draw)."""
    own = inputs.subject.area == ATTENTION and not inputs.subject.masked
    with report.making("palette", "palette"):
        palette = palette_of(
            inputs.subject,
            inputs.target,
            inputs.vae,
            inputs.prompt,
            source=source_of(inputs.target),
            saliency=PER_LEVEL if own else AVERAGE,
            node=NODE,
            notices=inputs.notices,
        )
    _note_features(inputs, palette.references, report)
    template = None
    if inputs.layout != OWN:
        with report.making("template", "" if inputs.layout == DRAWN else TEMPLATE_KIND):
            template = template_of(inputs)
    size = inputs.likeness * STEP_SIZE
    report.say(f"Strength: step_size {size:g} of Subject Guidance, where likeness 1 is {STEP_SIZE}.")
    return inputs.guider(_guided(inputs, inputs.target, palette, template), inputs.positive)


def by_retouch(inputs: Inputs, report: Report) -> CFGGuider:
    """Layout-and-Retouch, Algorithm 1: Two-Model Sampler, Adaptive Mask and Reference Retouch."""
    with report.making("masks of the photographs", "masks"):
        reference = reference_of(
            inputs.subject,
            inputs.target,
            inputs.vae,
            inputs.prompt,
            source=source_of(inputs.target),
            node=NODE,
            notices=inputs.notices,
        )
    _note_features(inputs, reference, report)
    report.say(f"Strength: {inputs.likeness:g} of Reference Retouch.")
    papers = RetouchSettings(
        early_swap=QKV_BOTH,
        strength=inputs.likeness,
        lambdas_by=PERCENT,
        lambda_2_percent=LAMBDA,
        lambda_3_percent=LAMBDA,
    )
    settings = suited(papers, inputs.target)
    if inputs.layout != TEMPLATE:
        alone = replace(settings, early_swap=NONE)
        model = retouch(inputs.target, reference, None, None, alone, notices=inputs.notices)
        if inputs.layout == DRAWN:
            model = _guided(inputs, model, None, template_of(inputs))
        return inputs.guider(model, inputs.positive)
    with report.making("layout", LAYOUT_KIND):
        layout = retouch_layout(inputs)
    positive = inputs.positive
    if inputs.target_prompt == NEUTRAL_PROMPT:
        positive = faded(positive, inputs.prompt.neutral_conditioning, inputs.likeness, NODE)
    mask = replace(adaptive_mask(inputs, layout), prompt=positive[0][0])
    model = retouch(
        inputs.target,
        reference,
        layout.trajectory,
        mask,
        settings,
        notices=inputs.notices,
        vanilla_model=inputs.model,
    )
    return inputs.guider(model, positive)


def by_joint(inputs: Inputs, report: Report) -> CFGGuider:
    """Joint sampling with the photographs as given members: Joint Guider (JeDi)."""
    blocks, _ = joint.automatic_blocks(inputs.target, is_joint(inputs.target), NODE)
    known: list[References] = []
    empty: list = []
    if inputs.likeness > 0:
        empty = empty_prompt(inputs.prompt.clip, NODE)
        with report.making("masks of the photographs", "" if reads_more(inputs.target) else "masks"):
            known = [
                members_of(
                    inputs.subject,
                    inputs.target,
                    inputs.vae,
                    inputs.prompt,
                    caption=empty,
                    node=NODE,
                    notices=inputs.notices,
                )
            ]
    pictures = len(inputs.latent["samples"])
    report.say(
        f"Strength: {inputs.likeness:g} of the coupling; {pictures} new and {inputs.subject.count} given members in "
        f"one set, coupled in {blocks} blocks."
    )
    return joint.joint_guider(
        inputs.target,
        prompts=[inputs.positive],
        negative=inputs.prompt.negative_conditioning,
        references=known,
        captions=(),
        widgets=joint.Widgets(
            cfg=inputs.cfg,
            guidance=TOGETHER,
            image_cfg=inputs.cfg,
            strength=inputs.likeness,
            blocks=blocks,
            reference_noise=FRESH,
            channel_order=joint.AUTOMATIC,
        ),
        node=NODE,
        notices=inputs.notices,
    )


GUIDERS: dict[str, Callable[[Inputs, Report], CFGGuider]] = {PALETTE: by_palette, RETOUCH: by_retouch, JOINT: by_joint}


def _guided(inputs: Inputs, model: ModelPatcher, palette: Palette | None, template: Template | None) -> ModelPatcher:
    said = inputs.prompt.personalized
    widgets = Widgets(
        text=said.text,
        word=said.word,
        appearance_weight=1.0,
        appearance_start=APPEARANCE[0],
        appearance_end=APPEARANCE[1],
        layout_weight=1.0,
        layout_start=0.0,
        layout_end=TEMPLATE_END,
        layout_blocks="all",
        direction=DIRECTIONS[0],
        step=RELATIVE,
        step_size=inputs.likeness * STEP_SIZE,
        iterations=1,
        every=1,
        threshold=THRESHOLD,
    )
    return guide(model, inputs.prompt.clip, palette, template, widgets, notices=inputs.notices)[0]


def _note_features(inputs: Inputs, pictures: References, report: Report) -> None:
    name = inputs.identities[1].name
    known = [item for item in pictures.items if name in item.inversions or name in _makers(item)]
    report.note("features of the photographs", len(known) == len(pictures.items))


def _makers(item: Reference) -> set[str]:
    return {key.weights for key, *_ in item.bank.items()}
