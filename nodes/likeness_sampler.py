"""LikenessSampler: draws a subject by the paper's method that suits the models at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.host.failures import leaving_nothing
from ..patching.subject.sampler import draw
from ..patching.subject.sampler_checks import check_layout, check_method
from ..patching.subject.sampler_inputs import Inputs
from ..patching.subject.sampler_settings import (
    AUTOMATIC,
    LAYOUTS,
    METHODS,
    NEUTRAL_PROMPT,
    TARGET_PROMPTS,
    TEMPLATE,
)
from ._api import ADVANCED, DIAL, SAMPLE, TELLS, SubjectPromptType, SubjectType, io, notices, output, schema, ui
from ._sampling import cfg_input, denoise_input, sampler_input, scheduler_input, seed_input, steps_input
from ._validate import check, in_options, in_range, linked, valid

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

    from ..patching.host.prompt import SubjectPrompt
    from ..patching.subject.subject import Subject


def _linked_inputs() -> list:
    return [
        io.Model.Input(
            "model", tooltip="The model without the subject's LoRA, or a joint checkpoint from Load Joint Checkpoint."
        ),
        io.Vae.Input("vae", tooltip="The model's VAE."),
        SubjectType.Input("subject", tooltip="The subject's photographs, from Subject."),
        SubjectPromptType.Input("subject_prompt", tooltip="The prompt, from Subject Prompt."),
        io.Latent.Input(
            "latent", tooltip="An empty latent, or an image's with denoise below 1; its noise mask is respected."
        ),
    ]


def _sampling_inputs() -> list:
    return [
        seed_input("The seed of the noise, which is the noise that KSampler draws."),
        steps_input("The number of sampling steps. Layout-and-Retouch: 50. No neutral value."),
        cfg_input(
            "Classifier-free guidance scale. Neutral: 1. The papers' scales are not known; 7.5 is usual for SD 1.x."
        ),
        sampler_input("Any sampler. Layout-and-Retouch uses ddim."),
        scheduler_input("Any scheduler. DDIM steps are ddim_uniform."),
    ]


def _likeness_inputs() -> list:
    return [
        io.Combo.Input(
            "method",
            options=list(METHODS),
            default=AUTOMATIC,
            tooltip=(
                "automatic: joint for a joint checkpoint, retouch for a personalized model or a learned token, palette "
                "guidance for photographs alone. palette guidance: Pick-and-Draw. retouch: Layout-and-Retouch. joint: "
                "JeDi. No neutral value."
            ),
        ),
        io.Float.Input(
            "likeness",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            **DIAL,
            tooltip=(
                "How much the photographs count: it scales the method's own strength. Neutral: 0, the same picture as "
                "KSampler's. 1 is the paper's method."
            ),
        ),
        io.Combo.Input(
            "layout",
            options=list(LAYOUTS),
            default=TEMPLATE,
            tooltip=(
                "Where the composition comes from. vanilla template: from the vanilla model, as in the papers. own "
                "layout: from the picture's own model. drawn mask: the subject goes where mask is white. joint has "
                "its own layout. Neutral: own layout."
            ),
        ),
    ]


def _optional_inputs() -> list:
    return [
        io.Model.Input(
            "personalized_model",
            optional=True,
            tooltip="The model with the subject's LoRA or fine-tune. Neutral: not connected, the photographs alone.",
        ),
        io.Mask.Input(
            "mask", optional=True, tooltip="The subject's place, for layout drawn mask. Neutral: not connected."
        ),
        denoise_input(
            "The share of the noise schedule that is run. Neutral: 1, from pure noise, as in the papers.", optional=True
        ),
        io.Combo.Input(
            "target_prompt",
            options=list(TARGET_PROMPTS),
            default=NEUTRAL_PROMPT,
            optional=True,
            **ADVANCED,
            tooltip=(
                "The prompt of a retouch at likeness 1. neutral: 'a photo of' the subject, our reading of the paper; "
                "the layout gives the rest. whole: the whole prompt, which keeps the place where the layout does not. "
                "Neutral: whole. Only for retouch with layout vanilla template."
            ),
        ),
    ]


class LikenessSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSampler",
            display_name="Likeness Sampler",
            category=SAMPLE,
            description=(
                "Draws a subject from its photographs by the method that suits the models: Pick-and-Draw, "
                "Layout-and-Retouch or JeDi. One dial, likeness, from KSampler's picture to the paper's method."
            ),
            inputs=[*_linked_inputs(), *_sampling_inputs(), *_likeness_inputs(), *_optional_inputs()],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The picture, for VAE Decode."),
                io.String.Output(
                    "report",
                    display_name="REPORT",
                    tooltip="The method and the reason for it, what was reused, and the time of each part.",
                ),
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(
        cls,
        steps: int | None = None,
        sampler: str | None = None,
        method: str | None = None,
        likeness: float | None = None,
        layout: str | None = None,
        denoise: float | None = None,
        target_prompt: str | None = None,
        input_types: dict | None = None,
    ) -> bool | str:
        types = input_types or {}
        return valid(
            check(in_options, cls, sampler=sampler, method=method, layout=layout, target_prompt=target_prompt),
            check(in_range, cls, steps=steps, likeness=likeness, denoise=denoise),
            check(linked, cls, types),
            check(check_layout, layout, "mask" in types),
            check(check_method, method, layout, sampler),
        )

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        model: ModelPatcher,
        vae: VAE | None,
        subject: Subject,
        subject_prompt: SubjectPrompt,
        latent: dict,
        method: str,
        personalized_model: ModelPatcher | None = None,
        mask: torch.Tensor | None = None,
        denoise: float = 1.0,
        target_prompt: str = NEUTRAL_PROMPT,
        **widgets,
    ) -> io.NodeOutput:
        told = notices(cls)
        inputs = Inputs(
            model=model,
            vae=vae,
            subject=subject,
            prompt=subject_prompt,
            latent=latent,
            personalized_model=personalized_model,
            mask=mask,
            denoise=denoise,
            target_prompt=target_prompt,
            notices=told,
            **widgets,
        )
        made, report = draw(inputs, method)
        return output(told, made, report, shown=ui.PreviewText(report))
