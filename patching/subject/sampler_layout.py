"""Layouts of LikenessSampler: the vanilla model's picture of the prompt, for a retouch and for palette guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..features.room import features_size, has_room
from ..features.trajectory import Trajectory
from ..features.word_maps import MAP_LEVELS, MAP_WINDOW, word_maps
from ..host.blocks import layers_of, parse
from ..host.checks import given_clip
from ..host.families import discover, presets
from ..host.family import LATE
from ..host.window import Window
from ..layout_and_retouch import segment
from ..layout_and_retouch.mask import PER_STEP, SubjectMask, build_mask
from ..layout_and_retouch.step_blended import StepBlendedGuider
from ..layout_and_retouch.switch import Switch
from ..pick_and_draw.build_template import Sampling, draw_template, record_template
from ..pick_and_draw.template import Template
from .sampler_families import is_transformer, map_blocks
from .sampler_inputs import NODE, Inputs
from .sampler_settings import DRAWN, NEUTRAL_PROMPT, TAU, TEMPLATE_END, THRESHOLD
from .subject import AREAS

LAYOUT_KIND, TEMPLATE_KIND = "layout", "template"
"""Kinds of what the subject keeps."""


@dataclass(frozen=True, eq=False)
class RetouchLayout:
    """A step-blended run. heat, subject: [images, height, width], the attention to the subject's words and the mask of
    Segment Anything, None without a checkpoint."""

    trajectory: Trajectory
    heat: torch.Tensor
    subject: torch.Tensor | None


def retouch_layout(inputs: Inputs) -> RetouchLayout:
    """Layout of Two-Model Sampler, Attention Maps of a Word and Segment the Subject. The latest one is kept."""
    key = (LAYOUT_KIND, *inputs.key, inputs.subject.area, inputs.prompt.clip, inputs.vae)
    return inputs.subject.keep(key, lambda: _step_blended(inputs), inputs.repeats, most=1)


def template_of(inputs: Inputs) -> Template:
    """Template of Layout Template for the vanilla model, of which the latest is kept, or for the drawn mask."""
    if inputs.layout == DRAWN:
        return draw_template(inputs.target, inputs.mask, "", inputs.latent)
    key = (TEMPLATE_KIND, *inputs.key, inputs.prompt.vanilla_clip)
    return inputs.subject.keep(key, lambda: _recorded(inputs), inputs.repeats, most=1)


def adaptive_mask(inputs: Inputs, layout: RetouchLayout) -> SubjectMask:
    """Mask of Adaptive Mask for the target's prompt."""
    prompt = inputs.prompt
    said = prompt.neutral if inputs.target_prompt == NEUTRAL_PROMPT else prompt.personalized
    return build_mask(
        layout.subject,
        layout.heat,
        PER_STEP,
        prompt.clip,
        said.text,
        said.word,
        map_blocks(inputs.target),
        notices=inputs.notices,
    )


def _recorded(inputs: Inputs) -> Template:
    said = inputs.prompt.vanilla
    template, _ = record_template(
        inputs.model,
        given_clip(inputs.prompt.vanilla_clip, NODE),
        text=said.text,
        word=said.word,
        negative=inputs.prompt.negative_conditioning,
        latent=inputs.latent,
        sampling=Sampling(
            seed=inputs.seed,
            steps=inputs.steps,
            cfg=inputs.cfg,
            sampler=inputs.sampler,
            scheduler=inputs.scheduler,
            denoise=inputs.denoise,
        ),
        blocks="all",
        window=Window(0.0, TEMPLATE_END),
        picture=False,
    )
    return template


def _step_blended(inputs: Inputs) -> RetouchLayout:
    prompt, target = inputs.prompt, inputs.target
    guider = StepBlendedGuider(
        inputs.model, target, Switch(percent=TAU), NODE, _recorded_blocks(inputs), inputs.notices
    )
    guider.set_blended_conds(prompt.vanilla_conditioning, inputs.positive, prompt.negative_conditioning)
    guider.set_cfg(inputs.cfg)
    picture = inputs.sample(guider)
    trajectory, said = guider.trajectory, prompt.personalized
    assert trajectory is not None
    heat = word_maps(
        target,
        prompt.clip,
        picture,
        text=said.text,
        word=said.word,
        blocks=map_blocks(target),
        group_by="together",
        window=MAP_WINDOW,
        levels=MAP_LEVELS,
        seed=0,
        node=NODE,
    ).heatmaps
    return RetouchLayout(trajectory, heat, _segmented(inputs, picture, heat))


def _segmented(inputs: Inputs, picture: dict, heat: torch.Tensor) -> torch.Tensor | None:
    if inputs.subject.area in AREAS:
        return None
    assert inputs.vae is not None
    image = inputs.vae.decode(picture["samples"])
    prompts = segment.prompts(image, heat, threshold=THRESHOLD, inside="", outside="", box="")
    return segment.segment(segment.load(inputs.subject.area), image, prompts)


def _recorded_blocks(inputs: Inputs) -> str:
    """The blocks whose features the layout's run keeps: the paper's, or none where the RAM is short.

    The retouch of a transformer keeps none.
    """
    target, samples = inputs.target, inputs.latent["samples"]
    if is_transformer(target):
        return ""
    chosen = parse("paper", discover(target, NODE), NODE, presets(target, LATE, NODE))
    one = features_size(target, (samples.shape[-2], samples.shape[-1]), layers_of(chosen), NODE)
    sides = 1 if inputs.cfg == 1 else 2
    return "paper" if has_room(one * sides * len(samples) * len(inputs.levels)) else ""
