"""AdaptiveMask: the soft mask under which a retouch blends the target's features with the layout's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kernels.layout_and_retouch import CORES, MaskRules
from ..kernels.morphology import METRICS
from ..patching.host.blocks import check_names
from ..patching.host.prompt import PERSONALIZED, WORDINGS, text_and_word
from ..patching.host.words import check_word
from ..patching.layout_and_retouch.mask import (
    LATENT,
    NODE,
    PER_STEP,
    PICTURE,
    RECORDED,
    build_mask,
    check_sources,
    preview,
)
from ._api import ADVANCED, MAPS, TELLS, AdaptiveMaskType, io, notices, output, prompt_input, schema, ui
from ._validate import check, in_options, linked, valid

if TYPE_CHECKING:
    from ..patching.host.prompt import SubjectPrompt


class AdaptiveMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AdaptiveMask",
            display_name="Adaptive Mask (Layout-and-Retouch)",
            category=MAPS,
            description=(
                "Makes the soft mask of the subject for Reference Retouch, at every step. Its sources are a "
                "mask of the subject in the layout image and the attention to the subject's words."
            ),
            is_output_node=True,
            inputs=[
                io.Mask.Input(
                    "subject_mask",
                    optional=True,
                    tooltip=(
                        "The subject in the layout image, from Segment the Subject or any MASK. Not connected: the "
                        "heatmap alone."
                    ),
                ),
                io.Mask.Input(
                    "heatmap",
                    optional=True,
                    tooltip="Attention of the subject's words in the layout image, from Attention Maps of a Word. "
                    "Not connected: the subject mask alone.",
                ),
                io.Combo.Input(
                    "attention",
                    options=[PER_STEP, RECORDED],
                    default=PER_STEP,
                    tooltip=(
                        "per_step: the mask follows the target's own attention from step to step, as in the paper; "
                        "needs clip, text and word. recorded: it stays as the heatmap makes it."
                    ),
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="The sampler's positive prompt, word for word. Neutral: empty, for attention recorded.",
                ),
                io.String.Input(
                    "word", default="", tooltip="The subject's words in text. Neutral: empty, for attention recorded."
                ),
                io.String.Input(
                    "blocks",
                    display_name="Where to read (blocks)",
                    default="decoder",
                    tooltip="Blocks whose cross-attention is averaged: names (output3), ranges, encoder, decoder, all. "
                    "The paper: the decoder.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.1,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    tooltip=(
                        "Attention, scaled to 0..1, above which a place belongs to the subject. Neutral: 0.99, hardly "
                        "any place. The paper's value is not known; MasaCtrl, which it follows, uses 0.1."
                    ),
                ),
                io.Float.Input(
                    "minimum_area",
                    default=0.005,
                    min=0.0,
                    max=0.5,
                    step=0.001,
                    **ADVANCED,
                    tooltip=(
                        "Smallest piece of the mask that is kept, as a fraction of the picture. Neutral: 0. The "
                        "paper's value is not known; 0.005 is our default."
                    ),
                ),
                io.Combo.Input(
                    "metric",
                    options=list(METRICS),
                    default=METRICS[0],
                    **ADVANCED,
                    tooltip=(
                        "The distance to the mask's edge that grades it from 0.5 to 1. The paper does not say; L2 is "
                        "ours."
                    ),
                ),
                io.Combo.Input(
                    "core",
                    options=list(CORES),
                    default=CORES[0],
                    **ADVANCED,
                    tooltip=(
                        "Region where the mask is 1. both: where subject mask and attention agree (our default; the "
                        "paper does not say); subject, attention: where one of them is. Neutral: none."
                    ),
                ),
                io.Float.Input(
                    "background",
                    default=0.0,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    **ADVANCED,
                    tooltip=(
                        "The mask's value outside the subject, the share of the target there. Neutral: 0, our default; "
                        "a literal reading of the paper gives 0.5."
                    ),
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="The text encoder of the target's prompt, for attention per_step."
                ),
                io.Image.Input("image", optional=True, tooltip="The layout image, shown under the preview."),
                io.Combo.Input(
                    "resolution",
                    options=[LATENT, PICTURE],
                    default=LATENT,
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "Pixels in which attention per_step makes the mask. latent: those of the latent, without a "
                        "wait for the GPU. picture: the picture's own, as in the paper; the CPU makes the mask between "
                        "two steps. Neutral: latent."
                    ),
                ),
                prompt_input("chosen"),
                io.Combo.Input(
                    "wording",
                    options=list(WORDINGS),
                    default=PERSONALIZED,
                    optional=True,
                    tooltip=(
                        "The text of subject_prompt that the sampler gets as positive. The paper, as we read it: "
                        "neutral. Neutral value: personalized, the layout's own prompt. Unused without subject_prompt."
                    ),
                ),
            ],
            outputs=[
                AdaptiveMaskType.Output(
                    "adaptive_mask",
                    display_name="ADAPTIVE_MASK",
                    tooltip="Connect it to Reference Retouch.",
                ),
                io.Mask.Output(
                    "mask", display_name="MASK", tooltip="The soft mask before the target's own attention changes it."
                ),
                io.Image.Output(
                    "preview",
                    display_name="PREVIEW",
                    tooltip="The layout image, the subject in it, and the mask over it.",
                ),
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(cls, attention=None, text=None, word=None, blocks=None, input_types=None) -> bool | str:
        types = input_types or {}
        masked, follows = "subject_mask" in types or "heatmap" in types, attention == PER_STEP
        return valid(
            check(in_options, cls, attention=attention),
            check(linked, cls, types),
            check(check_sources, attention, masked, "clip" in types),
            check(check_names, blocks, NODE, needed=follows),
            check(check_word, text if follows and "subject_prompt" not in types else None, word, NODE),
        )

    @classmethod
    def execute(
        cls,
        attention,
        text,
        word,
        blocks,
        subject_mask=None,
        heatmap=None,
        clip=None,
        image=None,
        resolution=LATENT,
        subject_prompt: SubjectPrompt | None = None,
        wording: str = PERSONALIZED,
        **rules,
    ) -> io.NodeOutput:
        told = notices(cls)
        mask = build_mask(
            subject_mask,
            heatmap,
            attention=attention,
            clip=clip,
            **text_and_word(subject_prompt, wording, text, word),
            blocks=blocks,
            rules=MaskRules(**rules),
            notices=told,
            resolution=resolution,
        )
        picture = preview(mask, image)
        return output(told, mask, mask.fixed, picture, shown=ui.PreviewImage(picture, cls=cls))
