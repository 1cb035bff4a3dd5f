"""Appearance palettes for UREMDGuidance: AppearancePalette makes them, two more nodes save and load them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.features.references import INVERTED, NOISED
from ..patching.host.blocks import check_names
from ..patching.host.failures import leaving_nothing
from ..patching.host.window import Window, check_window
from ..patching.host.words import check_word
from ..patching.pick_and_draw import palette_file
from ..patching.pick_and_draw.build_palette import Picture, build_palette, check_pictures
from ..patching.pick_and_draw.palette import NODE
from ._api import ADVANCED, CATEGORY, FIXED, LoadFile, PaletteType, io, schema, size_input, ui, window_inputs
from ._validate import check, in_range, linked, valid

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

    from ..patching.pick_and_draw.palette import Palette


class AppearancePalette(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AppearancePalette",
            display_name="Appearance Palette (Pick-and-Draw)",
            category=CATEGORY,
            description=(
                "Takes the subject's features from a picture of it, at every noise level, for UREMD Guidance to pull a "
                "generated subject towards. Only the subject's part of the picture counts."
            ),
            search_aliases=["pick and draw", "reference features", "subject palette", "saliency mask"],
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
                    options=[INVERTED, NOISED],
                    default=INVERTED,
                    tooltip=(
                        "inverted: DDIM inversion in 50 model calls, which gives the latents of the paper's null-text "
                        "inversion. noised: adds fresh noise, without a model call."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    **FIXED,
                    tooltip="The seed of the noise for source noised and for the mask.",
                ),
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
                        "Neutral: 1. Has no effect with direction ref_to_gen of UREMD Guidance."
                    ),
                ),
                io.String.Input(
                    "blocks",
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
                    tooltip="A palette of the same blocks and window to which this picture is added.",
                ),
                size_input(),
            ],
            outputs=[
                PaletteType.Output("palette", display_name="PALETTE", tooltip="For UREMD Guidance."),
                io.Mask.Output("mask", display_name="MASK", tooltip="The subject's area."),
                io.Image.Output(
                    "preview", display_name="PREVIEW", tooltip="The picture, its mask, and its features as colors."
                ),
            ],
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
            check(check_pictures, "image" in types, "latent" in types),
            check(check_names, blocks, NODE, paper=True, needed=True),
            check(check_names, map_blocks if reads_words else None, NODE, "map_blocks", paper=True, needed=True),
            check(check_window, start_percent, end_percent, NODE),
            check(check_word, text if reads_words else None, word, NODE),
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
        **picture,
    ) -> io.NodeOutput:
        made = build_palette(
            model,
            clip,
            Picture(**picture),
            source=source,
            seed=seed,
            weight=weight,
            blocks=blocks,
            window=Window(start_percent, end_percent),
            sigmas=sigmas,
            more=more,
        )
        return io.NodeOutput(made.palette, made.mask, made.preview, ui=ui.PreviewImage(made.preview, cls=cls))


class LikenessSavePalette(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSavePalette",
            display_name="Save Palette",
            category=CATEGORY,
            description="Saves a palette, with the features it has so far, in ComfyUI's output folder.",
            search_aliases=["feature bank", "save palette"],
            is_output_node=True,
            inputs=[
                PaletteType.Input("palette", tooltip="From Appearance Palette."),
                io.String.Input(
                    "filename_prefix", default="subject", tooltip="The file's name, below output/likeness_palettes."
                ),
                io.Latent.Input(
                    "after",
                    optional=True,
                    tooltip=(
                        "The output of a guided sampler: the palette is saved with what that run has computed. "
                        "Neutral: not connected."
                    ),
                ),
            ],
            outputs=[PaletteType.Output("palette", display_name="PALETTE", tooltip="The same palette.")],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return valid(check(palette_file.STORE.check_prefix, filename_prefix))

    @classmethod
    def execute(cls, palette: Palette, filename_prefix: str, after: dict | None = None) -> io.NodeOutput:
        del after  # an input that makes the host run this node after the sampler
        path = palette_file.save(palette, filename_prefix)
        return io.NodeOutput(palette, ui=ui.PreviewText(f"{path.name}\n{palette}"))


class LikenessLoadPalette(LoadFile):
    store = palette_file.STORE

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadPalette",
            display_name="Load Palette",
            category=CATEGORY,
            description="A palette that Save Palette wrote: pictures, masks, captions and features are in the file.",
            search_aliases=["feature bank", "load palette"],
            inputs=[cls.file_input()],
            outputs=[PaletteType.Output("palette", display_name="PALETTE", tooltip="For UREMD Guidance.")],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(palette_file.load(file))
