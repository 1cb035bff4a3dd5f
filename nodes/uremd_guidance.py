"""UREMDGuidance: Pick-and-Draw's guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kernels.pick_and_draw import RAW, RELATIVE
from ..kernels.uremd import DIRECTIONS
from ..patching.host.blocks import check_names
from ..patching.host.prompt import PERSONALIZED, text_and_word
from ..patching.host.words import check_word
from ..patching.pick_and_draw.build import check_kernel, check_sources, guide
from ..patching.pick_and_draw.settings import NODE, Widgets
from ._api import (
    ADVANCED,
    GUIDE,
    TELLS,
    LossesType,
    PaletteType,
    TemplateType,
    io,
    notices,
    output,
    prompt_input,
    schema,
)
from ._losses import decay_over_input, form_inputs, loss_inputs
from ._validate import check, in_range, linked, valid

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

    from ..patching.host.prompt import SubjectPrompt
    from ..patching.pick_and_draw.palette import Palette
    from ..patching.pick_and_draw.template import Template


class UREMDGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="UREMDGuidance",
            display_name="Subject Guidance (Pick-and-Draw)",
            category=GUIDE,
            description=(
                "Guides sampling by gradients: pulls the generated subject's features towards a palette picked from a "
                "reference, and its attention towards a layout template. Needs no training and works with any sampler."
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to guide, with or without the subject's LoRA. Connect the output to a sampler.",
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="The sampler's positive prompt, word for word.",
                ),
                io.String.Input("word", default="", tooltip="The words of the prompt that stand for the subject."),
                *loss_inputs(),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    default=DIRECTIONS[0],
                    tooltip=(
                        "gen_to_ref, the paper's: every generated part finds one in the palette. ref_to_gen: every "
                        "part of the palette must appear, pose included. max: both, the two-sided distance."
                    ),
                ),
                io.Combo.Input(
                    "step",
                    options=[RELATIVE, RAW],
                    default=RELATIVE,
                    **ADVANCED,
                    tooltip=(
                        "relative, our default: a step is step_size times the larger weight times the latent's norm, "
                        "and less once the template is nearly matched. raw: step_size times the gradient, as in "
                        "similar papers."
                    ),
                ),
                io.Float.Input(
                    "step_size",
                    default=0.05,
                    min=0.0,
                    max=1000.0,
                    step=0.001,
                    tooltip=(
                        "Length of each gradient step. Neutral: 0. The paper's value is not known; similar papers use "
                        "20 to 70 with step raw."
                    ),
                ),
                io.Int.Input(
                    "iterations",
                    default=1,
                    min=1,
                    max=20,
                    **ADVANCED,
                    tooltip="Gradient steps per guided step. The paper's value is not known; 1 is ours.",
                ),
                io.Int.Input(
                    "every",
                    default=1,
                    min=1,
                    max=100,
                    tooltip=(
                        "Guide every n-th step only: 2 halves the time that guidance takes. Neutral and the paper's: 1."
                    ),
                ),
                io.Float.Input(
                    "threshold",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip=(
                        "Attention to the words, from 0 to 1, above which a place counts as the generated subject. "
                        "Neutral: 0, nearly the whole picture. The paper's value is not known."
                    ),
                ),
                io.String.Input(
                    "map_blocks",
                    default="paper",
                    **ADVANCED,
                    tooltip=(
                        "Blocks whose attention locates the generated subject. paper: the decoder except its finest "
                        "resolution, our reading of the paper, which names no layers."
                    ),
                ),
                PaletteType.Input(
                    "palette", optional=True, tooltip="From Appearance Palette. Neutral: not connected, layout alone."
                ),
                TemplateType.Input(
                    "template", optional=True, tooltip="From Layout Template. Neutral: not connected, appearance alone."
                ),
                *form_inputs(),
                prompt_input(PERSONALIZED),
                decay_over_input(),
            ],
            outputs=[
                io.Model.Output("model", display_name="MODEL", tooltip="The guided model; sample with it as usual."),
                LossesType.Output(
                    "losses", display_name="LOSSES", tooltip="The losses during sampling, for Loss Curves."
                ),
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(
        cls, text=None, word=None, layout_blocks=None, map_blocks=None, kernel_size=None, input_types=None
    ) -> bool | str:
        types = input_types or {}
        return valid(
            check(linked, cls, types),
            check(check_sources, "palette" in types, "template" in types),
            check(check_word, None if "subject_prompt" in types else text, word, NODE),
            check(check_names, layout_blocks, NODE, "layout_blocks", demo=True),
            check(check_names, map_blocks, NODE, "map_blocks", paper=True, needed="palette" in types),
            check(in_range, cls, kernel_size=kernel_size),
            check(check_kernel, kernel_size),
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        text: str,
        word: str,
        palette: Palette | None = None,
        template: Template | None = None,
        subject_prompt: SubjectPrompt | None = None,
        **widgets,
    ) -> io.NodeOutput:
        told = notices(cls)
        settings = Widgets(**text_and_word(subject_prompt, PERSONALIZED, text, word), **widgets)
        return output(told, *guide(model, clip, palette, template, settings, notices=told))
