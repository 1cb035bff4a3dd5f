"""LikenessAttentionMaps: maps of a picture that show the attention to a word of the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.features.word_maps import GROUPINGS, NODE, word_maps
from ..patching.host.blocks import check_names
from ..patching.host.failures import leaving_nothing
from ..patching.host.prompt import PERSONALIZED, WORDINGS, text_and_word
from ..patching.host.window import Window, check_order
from ..patching.host.words import check_word
from ._api import FIXED, MAPS, TELLS, io, notices, output, prompt_input, schema, ui, window_inputs
from ._sampling import seed_input
from ._validate import check, in_range, linked, valid

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

    from ..patching.host.prompt import SubjectPrompt


class LikenessAttentionMaps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessAttentionMaps",
            display_name="Attention Maps of a Word",
            category=MAPS,
            description=(
                "Maps a picture's attention to a word of the prompt, as a mask per group of blocks. It is the "
                "cross-attention to the word's tokens while the model denoises the noised picture."
            ),
            is_output_node=True,
            hidden=TELLS,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model that denoises the picture: SD 1.x, SD 2, SDXL or a transformer, with any LoRA.",
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.Latent.Input(
                    "latent",
                    tooltip="The picture: the LATENT of any sampler, or of VAE Encode for a picture of your own.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt, as for CLIP Text Encode: weights such as (cat:1.2) and embeddings work.",
                ),
                io.String.Input(
                    "word",
                    default="",
                    tooltip="The word of the prompt, or several that stand together; every occurrence counts.",
                ),
                io.String.Input(
                    "blocks",
                    display_name="Where to read (blocks)",
                    default="all",
                    tooltip=(
                        "Attention blocks to read: names (input4), ranges (output3-8), lists of them, or encoder, "
                        "decoder, all. all reads the whole network."
                    ),
                ),
                io.Combo.Input(
                    "group_by",
                    options=list(GROUPINGS),
                    default="together",
                    tooltip=(
                        "One heatmap of all blocks together, or one per part (encoder, middle, decoder), per size of "
                        "the feature maps, or per block."
                    ),
                ),
                *window_inputs(0.2, 0.8),
                io.Int.Input(
                    "noise_levels",
                    default=4,
                    min=1,
                    max=100,
                    tooltip=(
                        "Number of noise levels in the window to average over; each costs one model call. 4 gives "
                        "steady maps."
                    ),
                ),
                seed_input("Seed of the noise that is added to the picture.", **FIXED),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip=(
                        "Decodes the picture under the preview. Not connected: its colors are approximated from the "
                        "latent."
                    ),
                ),
                prompt_input("chosen"),
                io.Combo.Input(
                    "wording",
                    options=list(WORDINGS),
                    default=PERSONALIZED,
                    optional=True,
                    tooltip=(
                        "The text of subject_prompt to read: neutral for a reference picture, the others for a "
                        "generated one. Unused without subject_prompt."
                    ),
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "heatmaps",
                    display_name="HEATMAPS",
                    tooltip=(
                        "0 to 1 per picture, as large as the picture; with several groups, all pictures of the first "
                        "group come first."
                    ),
                ),
                io.Image.Output(
                    "preview",
                    display_name="PREVIEW",
                    tooltip="Each picture, and beside it the heat of each group over it.",
                ),
                io.String.Output(
                    "groups",
                    display_name="GROUPS",
                    tooltip="The groups' names in the order of the heatmaps, one per line.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, text=None, word=None, blocks=None, start_percent=None, end_percent=None, input_types=None
    ) -> bool | str:
        types = input_types or {}
        return valid(
            check(linked, cls, types),
            check(in_range, cls, start_percent=start_percent, end_percent=end_percent),
            check(check_word, None if "subject_prompt" in types else text, word, NODE),
            check(check_names, blocks, NODE, needed=True),
            check(check_order, start_percent, end_percent, NODE),
        )

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        latent: dict,
        start_percent: float,
        end_percent: float,
        noise_levels: int,
        text: str,
        word: str,
        vae: VAE | None = None,
        subject_prompt: SubjectPrompt | None = None,
        wording: str = PERSONALIZED,
        **widgets,
    ) -> io.NodeOutput:
        told, said = notices(cls), text_and_word(subject_prompt, wording, text, word)
        maps = word_maps(
            model,
            clip,
            latent,
            text=said["text"],
            word=said["word"],
            window=Window(start_percent, end_percent),
            levels=noise_levels,
            vae=vae,
            notices=told,
            **widgets,
        )
        return output(
            told, maps.heatmaps, maps.preview, "\n".join(maps.groups), shown=ui.PreviewImage(maps.preview, cls=cls)
        )
