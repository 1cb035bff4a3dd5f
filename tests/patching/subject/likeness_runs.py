"""Runs of LikenessSampler on tiny models, and the same runs wired from the expert nodes."""

from __future__ import annotations

import functools

import torch
from likeness.nodes import (
    AdaptiveMask,
    AppearancePalette,
    JointImageSampler,
    LayoutTemplate,
    LikenessAttentionMaps,
    LikenessReference,
    LikenessSampler,
    MultiSourceAttnSwap,
    StepBlendedSampler,
    UREMDGuidance,
)
from likeness.patching.features.references import OWN_SIZE
from likeness.patching.jedi.checkpoint import with_format
from likeness.patching.jedi.format import JointFormat
from likeness.tests.patching.pick_and_draw.guidance_runs import SEED, clip_of, encoded, model_of, square
from likeness.tests.patching.subject.subjects import Averages, mask, photo, prompt_of, subject_of
from likeness.tests.patching.tiny_models import run_ksampler, tiny_model
from likeness.tests.patching.two_models import add_lora

SIDE = 8
SAMPLING = {"seed": 5, "steps": 3, "cfg": 4.0, "sampler": "euler", "scheduler": "normal"}
WINDOW = {"start_percent": 0.0, "end_percent": 1.0}
RETOUCH = {
    "lambdas_by": "percent",
    "lambda_2_percent": 0.2,
    "lambda_3_percent": 0.2,
    "blocks": "paper",
    "attention": "replace",
    "mode": "banked",
}
PHOTO = photo(1, 8 * SIDE, 8 * SIDE)
"""One tensor for all tests, with which its inversions are kept."""


def empty(images: int = 1) -> dict:
    return {"samples": torch.zeros(images, 4, SIDE, SIDE)}


@functools.cache
def vae() -> Averages:
    return Averages()


@functools.cache
def models() -> dict:
    """A vanilla model, a personalized one and a joint checkpoint."""
    vanilla = model_of()
    joint = with_format(tiny_model(seed=SEED, channels=9), JointFormat("mask, noisy, clean"))
    return {"vanilla": vanilla, "personalized": add_lora(vanilla), "joint": joint}


@functools.cache
def subject():
    return subject_of(PHOTO, masks={"mask0": mask(8 * SIDE)})


def sampled(model="vanilla", **changes) -> tuple[torch.Tensor, str]:
    """Samples and report of the node. model: a MODEL, or the name of one of `models`."""
    personal = changes.pop("personalized", None)
    given = {
        "model": models()[model] if isinstance(model, str) else model,
        "vae": vae(),
        "subject": subject(),
        "subject_prompt": prompt_of(token=personal is not None),
        "latent": empty(),
        "method": "automatic",
        "likeness": 1.0,
        "layout": "vanilla template",
        "personalized_model": None if personal is None else models()[personal],
        **SAMPLING,
        **changes,
    }
    made = LikenessSampler.execute(**given)
    return made.args[0]["samples"], made.args[1]


def by_ksampler(model, positive: list, negative: list | None = None, latent: dict | None = None) -> torch.Tensor:
    return run_ksampler(model, positive, negative or encoded(""), latent or empty(), **SAMPLING)


def reference(prompt, inversion_steps: int = 50, source: str = "inverted"):
    widgets = {"source": source, "seed": 0, "weight": 1.0, "size": OWN_SIZE, "inversion_steps": inversion_steps}
    return LikenessReference.execute(PHOTO, vae(), prompt.neutral_conditioning, mask=mask(8 * SIDE), **widgets).args[0]


def by_palette_nodes(prompt, step_size: float, layout: str = "vanilla template", masked: bool = True) -> torch.Tensor:
    """Appearance Palette, Layout Template, Subject Guidance and KSampler."""
    model = models()["vanilla"]
    palette = AppearancePalette.execute(
        model=model,
        clip=clip_of(),
        source="inverted",
        seed=0,
        threshold=0.3,
        weight=1.0,
        blocks="paper",
        map_blocks="paper",
        image=PHOTO,
        vae=vae(),
        mask=mask(8 * SIDE) if masked else None,
        size=OWN_SIZE,
        saliency="average" if masked else "per_level",
        subject_prompt=prompt,
        **WINDOW,
    ).args[0]
    template = None if layout == "own layout" else template_by_node(prompt, layout)
    return by_ksampler(guided_by_node(model, prompt, palette, template, step_size), prompt.personalized_conditioning)


def template_by_node(prompt, layout: str):
    """Layout Template of the vanilla model, or of the drawn mask."""
    return LayoutTemplate.execute(
        model=models()["vanilla"],
        clip=clip_of(),
        negative=prompt.negative_conditioning,
        latent=empty(),
        text="",
        word="",
        denoise=1.0,
        blocks="all",
        start_percent=0.0,
        end_percent=0.3,
        mask=drawn() if layout == "drawn mask" else None,
        subject_prompt=prompt,
        **SAMPLING,
    ).args[0]


def guided_by_node(model, prompt, palette, template, step_size: float):
    """The MODEL of Subject Guidance."""
    return UREMDGuidance.execute(
        model=model,
        clip=clip_of(),
        text="",
        word="",
        palette=palette,
        template=template,
        subject_prompt=prompt,
        appearance_weight=1.0,
        appearance_start=0.1,
        appearance_end=0.7,
        layout_weight=1.0,
        layout_start=0.0,
        layout_end=0.3,
        layout_blocks="all",
        direction="gen_to_ref",
        step="relative",
        step_size=step_size,
        iterations=1,
        every=1,
        threshold=0.3,
        map_blocks="paper",
    ).args[0]


def by_retouch_nodes(prompt, positive: list, strength: float) -> torch.Tensor:
    """Two-Model Sampler, Attention Maps, Adaptive Mask, Reference Retouch and KSampler."""
    vanilla, personalized, clip = models()["vanilla"], models()["personalized"], clip_of()
    layout, trajectory = StepBlendedSampler.execute(
        latent=empty(),
        denoise=1.0,
        switch_by="percent",
        switch_step=0,
        switch_percent=0.1,
        model=vanilla,
        personalized_model=personalized,
        positive=prompt.vanilla_conditioning,
        personalized_positive=prompt.personalized_conditioning,
        negative=prompt.negative_conditioning,
        record_blocks="paper",
        **SAMPLING,
    ).args
    heat = LikenessAttentionMaps.execute(
        model=personalized,
        clip=clip,
        latent=layout,
        start_percent=0.2,
        end_percent=0.8,
        noise_levels=4,
        text="",
        word="",
        blocks="decoder",
        group_by="together",
        seed=0,
        subject_prompt=prompt,
    ).args[0]
    soft = AdaptiveMask.execute(
        attention="per_step",
        text=prompt.neutral.text,
        word=prompt.neutral.word,
        blocks="decoder",
        heatmap=heat,
        clip=clip,
        threshold=0.1,
        minimum_area=0.005,
        metric="L2",
        core="both",
        background=0.0,
    ).args[0]
    retouched = MultiSourceAttnSwap.execute(
        model=personalized,
        reference=reference(prompt),
        layout=trajectory,
        mask=soft,
        vanilla_model=vanilla,
        early_swap="qkv_both",
        **RETOUCH,
        strength=strength,
    ).args[0]
    return by_ksampler(retouched, positive)


def by_reference_alone(prompt, strength: float, layout: str) -> torch.Tensor:
    """Reference Retouch without a layout, Subject Guidance towards a drawn mask, and KSampler."""
    model = MultiSourceAttnSwap.execute(
        model=models()["personalized"],
        reference=reference(prompt),
        early_swap="none",
        **RETOUCH,
        strength=strength,
    ).args[0]
    if layout == "drawn mask":
        model = guided_by_node(model, prompt, None, template_by_node(prompt, layout), 0.05 * strength)
    return by_ksampler(model, prompt.personalized_conditioning)


def by_joint_node(model: str, prompt, strength: float, references: bool = True) -> torch.Tensor:
    """Joint Image Sampler."""
    widgets = {
        "cfg": SAMPLING["cfg"],
        "guidance": "joint",
        "image_cfg": 4.0,
        "strength": strength,
        "blocks": "all" if model == "joint" else "decoder",
        "reference_noise": "fresh",
        "channel_order": "automatic",
    }
    made = JointImageSampler.execute(
        [models()[model]],
        [prompt.personalized_conditioning],
        [prompt.negative_conditioning],
        [empty()],
        [SAMPLING["seed"]],
        **{name: [SAMPLING[name]] for name in ("steps", "sampler", "scheduler")},
        denoise=[1.0],
        references=[reference(prompt, source="noised")] if references else None,
        caption=[encoded("")] if references else None,
        **{name: [value] for name, value in widgets.items()},
    )
    return made.args[0]["samples"]


def drawn() -> torch.Tensor:
    return square(SIDE, 2 * SIDE, 4 * SIDE)
