"""AppearancePalette: makes palettes for UREMDGuidance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..patching.features.references import INVERTED, NOISED
from ..patching.host.blocks import check_names
from ..patching.host.failures import leaving_nothing
from ..patching.host.family import FEATURES, SELF_INPUT
from ..patching.host.prompt import NEUTRAL, text_and_word
from ..patching.host.window import Window, check_window
from ..patching.host.words import check_word
from ..patching.pick_and_draw.build_palette import AVERAGE, PER_LEVEL, Picture, build_palette, check_pictures
from ..patching.pick_and_draw.null_text import NULL_TEXT
from ..patching.pick_and_draw.palette import NODE
from ..patching.subject.borrowing import kept_pictures
from ..patching.subject.prompt import caption_alone
from ..patching.subject.sockets import check_alone
from ._api import (
    ADVANCED,
    FIXED,
    SUBJECT,
    TELLS,
    PaletteType,
    SubjectType,
    io,
    notices,
    output,
    prompt_input,
    schema,
    size_input,
    ui,
    window_inputs,
)
from ._sampling import seed_input
from ._validate import check, in_range, linked, valid

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

    from ..patching.host.prompt import SubjectPrompt
    from ..patching.pick_and_draw.palette import Palette
    from ..patching.subject.subject import Subject


class AppearancePalette(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AppearancePalette",
            display_name="Appearance Palette (Pick-and-Draw)",
            category=SUBJECT,
            description=(
                "Takes the subject's features from a picture of it, at every noise level, for Subject Guidance to pull "
                "a generated subject towards. Only the subject's part of the picture counts."
            ),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that will be guided, with its LoRA."),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.String.Input(
                    "text",
                    default="a photo of a subject",
                    multiline=True,
                    tooltip="The picture's own caption, the subject and little else: 'a photo of a sks dog'.",
                ),
                io.String.Input(
                    "word",
                    default="subject",
                    tooltip=(
                        "The words of the caption that name the subject; attention to them locates it. Unused with a "
                        "mask."
                    ),
                ),
                io.Combo.Input(
                    "source",
                    options=[INVERTED, NOISED, NULL_TEXT],
                    default=INVERTED,
                    tooltip=(
                        "inverted: DDIM inversion in 50 model calls. noised: adds fresh noise, without a model "
                        "call. null_text: the paper's null-text inversion, which follows the inversion with guidance. "
                        "It takes up to 10 gradients per step: on the demo model, 42 times the time of inverted."
                    ),
                ),
                seed_input("The seed of the noise for source noised and for the mask.", **FIXED),
                io.Float.Input(
                    "threshold",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Attention to the words, from 0 to 1, above which a place belongs to the subject. Neutral: 0, "
                        "nearly the whole picture. The paper's value is not known; 0.3 is our default."
                    ),
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.01,
                    max=10.0,
                    step=0.01,
                    tooltip=(
                        "Preference for this picture among several: distances to its features are divided by it. "
                        "Neutral: 1. Has no effect with direction ref_to_gen of Subject Guidance."
                    ),
                ),
                io.String.Input(
                    "blocks",
                    display_name="Where to read (blocks)",
                    default="paper",
                    tooltip=(
                        "Blocks that features are taken from: names (output6), ranges (output6-8), lists, encoder, "
                        "decoder, all. paper: the decoder's middle resolution, our reading of the paper's 'certain "
                        "decoder layers'."
                    ),
                ),
                io.String.Input(
                    "map_blocks",
                    default="paper",
                    **ADVANCED,
                    tooltip=(
                        "Blocks whose attention to the words locates the subject. paper: the decoder except its finest "
                        "resolution, our reading of the paper, which names no layers. Unused with a mask."
                    ),
                ),
                *window_inputs(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The subject's picture, of any size, or a batch of pictures.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="The model's VAE; needed for image, and for the preview's colors."
                ),
                io.Latent.Input("latent", optional=True, tooltip="The picture as a LATENT, instead of image."),
                io.Mask.Input("mask", optional=True, tooltip="The subject's area, instead of the words' attention."),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    **ADVANCED,
                    tooltip="The caption encoded in another way. Neutral: not connected, text is encoded by clip.",
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "Noise levels to compute features for now. Neutral: not connected, the first guided run "
                        "computes its own."
                    ),
                ),
                PaletteType.Input(
                    "more",
                    optional=True,
                    tooltip="A palette of the same blocks, features and window to which this picture is added.",
                ),
                size_input(),
                io.Combo.Input(
                    "features",
                    options=list(FEATURES),
                    default=SELF_INPUT,
                    optional=True,
                    tooltip=(
                        "What is compared. self_attention_input, our default: the states that enter self-attention. "
                        "cross_attention_input and cross_attention_output are readings of the paper's 'cross attention "
                        "decoder layers'."
                    ),
                ),
                io.Combo.Input(
                    "saliency",
                    options=[AVERAGE, PER_LEVEL],
                    default=AVERAGE,
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "How attention locates the subject. average, our default: one area from four noise levels. "
                        "per_level, the paper's: each noise level has its own. Unused with a mask."
                    ),
                ),
                prompt_input(NEUTRAL),
                SubjectType.Input(
                    "subject",
                    optional=True,
                    tooltip=(
                        "Photographs from Subject, whose masks, size, threshold and map_blocks count in place of this "
                        "node's. Neutral: not connected, image or latent is the picture."
                    ),
                ),
            ],
            outputs=[
                PaletteType.Output("palette", display_name="PALETTE", tooltip="For Subject Guidance."),
                io.Mask.Output("mask", display_name="MASK", tooltip="The subject's area."),
                io.Image.Output(
                    "preview", display_name="PREVIEW", tooltip="The picture, its mask, and its features as colors."
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
        map_blocks=None,
        start_percent=None,
        end_percent=None,
        input_types=None,
    ) -> bool | str:
        types = input_types or {}
        reads_words = "mask" not in types
        return valid(
            check(in_range, cls, start_percent=start_percent, end_percent=end_percent),
            check(linked, cls, types),
            check(check_pictures, "image" in types, "latent" in types, "subject" in types),
            check(check_alone, types),
            check(check_names, blocks, NODE, paper=True, needed=True),
            check(check_names, map_blocks if reads_words else None, NODE, "map_blocks", paper=True, needed=True),
            check(check_window, start_percent, end_percent, NODE),
            check(check_word, text if reads_words and "subject_prompt" not in types else None, word, NODE),
        )

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        source: str,
        seed: int,
        weight: float,
        blocks: str,
        start_percent: float,
        end_percent: float,
        sigmas: torch.Tensor | None = None,
        more: Palette | None = None,
        features: str = SELF_INPUT,
        saliency: str = AVERAGE,
        text: str = "",
        word: str = "",
        subject_prompt: SubjectPrompt | None = None,
        subject: Subject | None = None,
        **picture,
    ) -> io.NodeOutput:
        told = notices(cls)
        widgets: dict[str, Any] = {
            "source": source,
            "seed": seed,
            "weight": weight,
            "blocks": blocks,
            "window": Window(start_percent, end_percent),
            "sigmas": sigmas,
            "more": more,
            "features": features,
            "saliency": saliency,
            "notices": told,
        }
        if subject is None:
            said = text_and_word(subject_prompt, NEUTRAL, text, word)
            made = build_palette(model, clip, Picture(**said, **picture), **widgets)
        else:
            said = subject_prompt or caption_alone(clip, text, word, NODE)
            made = kept_pictures(subject, model, picture.get("vae"), said, node=NODE, **widgets)
        return output(told, made.palette, made.mask, made.preview, shown=ui.PreviewImage(made.preview, cls=cls))
