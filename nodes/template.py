"""Layout templates for UREMDGuidance: LayoutTemplate makes them, two more nodes save and load them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.host.blocks import check_names
from ..patching.host.checks import check_vae
from ..patching.host.failures import leaving_nothing
from ..patching.host.prompt import VANILLA, text_and_word
from ..patching.host.window import Window, check_window
from ..patching.host.words import check_word
from ..patching.pick_and_draw import template_file
from ..patching.pick_and_draw.build_template import Sampling, check_boxes, draw_template, record_template
from ..patching.pick_and_draw.previews import preview_template
from ..patching.pick_and_draw.template import NODE
from ._api import (
    FILES,
    GUIDE,
    TELLS,
    LoadFile,
    TemplateType,
    io,
    notices,
    output,
    prompt_input,
    schema,
    ui,
    window_inputs,
)
from ._sampling import cfg_input, denoise_input, sampler_input, scheduler_input, seed_input, steps_input
from ._validate import check, in_range, linked, valid

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

    from ..patching.host.prompt import SubjectPrompt
    from ..patching.pick_and_draw.template import Template


class LayoutTemplate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LayoutTemplate",
            display_name="Layout Template (Pick-and-Draw)",
            category=GUIDE,
            description=(
                "Samples with the vanilla model and the plain prompt, and records the attention to the subject's word "
                "at every step. Subject Guidance makes a personalized model follow this layout. A mask or boxes can "
                "replace the run."
            ),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The vanilla model, without the subject's LoRA."),
                io.Clip.Input("clip", tooltip="The vanilla model's text encoder."),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The plain prompt, with the class and no placeholder: 'a photo of a dog in water'.",
                ),
                io.String.Input(
                    "word", default="", tooltip="The word of the prompt that stands for the subject: 'dog'."
                ),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.Latent.Input("latent", tooltip="The latent of the guided run."),
                seed_input(
                    "The seed of the noise. The guided run's own seed gives the layout that fits its noise, our "
                    "default reading of the paper."
                ),
                steps_input("Sampling steps; those of the guided run fit best. The paper's number is not known."),
                cfg_input("Guidance scale. Neutral: 1. The paper's value is not known; 7.5 is usual for SD 1.5."),
                sampler_input("The sampler."),
                scheduler_input("The scheduler; that of the guided run fits best. The paper's is not known."),
                denoise_input("How much is denoised. Neutral: 1, all of it.", least=0.0),
                io.String.Input(
                    "blocks",
                    display_name="Where to read (blocks)",
                    default="all",
                    tooltip=(
                        "Blocks whose maps are kept: names (output6), ranges (output6-11), lists, encoder, decoder, "
                        "all. The paper: all."
                    ),
                ),
                *window_inputs(),
                io.String.Input(
                    "boxes",
                    default="",
                    multiline=True,
                    tooltip=(
                        "The subject's place, instead of a vanilla run: left top right bottom as fractions of the "
                        "picture, one box per line. Neutral: empty."
                    ),
                ),
                io.Mask.Input("mask", optional=True, tooltip="The subject's place, instead of a vanilla run."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Decodes the preview. Not connected: its colors are approximated from the latent.",
                ),
                prompt_input(VANILLA),
            ],
            outputs=[
                TemplateType.Output("template", display_name="TEMPLATE", tooltip="For Subject Guidance."),
                io.Latent.Output(
                    "latent",
                    display_name="LATENT",
                    tooltip="The template image, or the given latent where nothing ran.",
                ),
                io.Image.Output(
                    "preview", display_name="PREVIEW", tooltip="The template image and the word's heat over it."
                ),
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(
        cls,
        text=None,
        word=None,
        blocks=None,
        start_percent=None,
        end_percent=None,
        boxes=None,
        input_types=None,
    ) -> bool | str:
        types = input_types or {}
        checks = [
            check(in_range, cls, start_percent=start_percent, end_percent=end_percent),
            check(linked, cls, types),
            check(check_boxes, boxes, "mask" in types),
        ]
        if "mask" not in types and boxes is not None and not boxes.strip():
            checks += [
                check(check_names, blocks, NODE, needed=True),
                check(check_window, start_percent, end_percent, NODE),
                check(check_word, None if "subject_prompt" in types else text, word, NODE),
            ]
        return valid(*checks)

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        negative: list,
        latent: dict,
        text: str,
        word: str,
        blocks: str,
        start_percent: float,
        end_percent: float,
        boxes: str = "",
        mask: torch.Tensor | None = None,
        vae: VAE | None = None,
        subject_prompt: SubjectPrompt | None = None,
        **sampling,
    ) -> io.NodeOutput:
        check_vae(model, vae, NODE)
        told, said = notices(cls), text_and_word(subject_prompt, VANILLA, text, word)
        if mask is not None or boxes.strip():
            template, made = draw_template(model, mask, boxes, latent), latent
        else:
            template, made = record_template(
                model,
                clip,
                text=said["text"],
                word=said["word"],
                negative=negative,
                latent=latent,
                sampling=Sampling(**sampling),
                blocks=blocks,
                window=Window(start_percent, end_percent),
                notices=told,
            )
        preview = preview_template(model, template, made, vae)
        return output(told, template, made, preview, shown=ui.PreviewImage(preview, cls=cls))


class LikenessSaveTemplate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSaveTemplate",
            display_name="Save Layout Template",
            category=FILES,
            description="Saves a layout template in ComfyUI's output folder.",
            is_output_node=True,
            inputs=[
                TemplateType.Input("template", tooltip="From Layout Template."),
                io.String.Input(
                    "filename_prefix", default="template", tooltip="The file's name, below output/likeness_templates."
                ),
            ],
            outputs=[TemplateType.Output("template", display_name="TEMPLATE", tooltip="The same template.")],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return valid(check(template_file.STORE.check_prefix, filename_prefix))

    @classmethod
    def execute(cls, template: Template, filename_prefix: str) -> io.NodeOutput:
        path = template_file.save(template, filename_prefix)
        return io.NodeOutput(template, ui=ui.PreviewText(f"{path.name}\n{template}"))


class LikenessLoadTemplate(LoadFile):
    store = template_file.STORE

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadTemplate",
            display_name="Load Layout Template",
            category=FILES,
            description="A layout template that Save Layout Template wrote.",
            inputs=[cls.file_input()],
            outputs=[TemplateType.Output("template", display_name="TEMPLATE", tooltip="For Subject Guidance.")],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(template_file.load(file))
