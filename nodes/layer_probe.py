"""LikenessLayerProbe: the blocks of a model that attend by position, and those that attend by content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.features.layer_probe import NODE, probe
from ..patching.features.layer_report import plot, table
from ..patching.host.blocks import check_names
from ..patching.host.failures import leaving_nothing
from ..patching.host.window import Window, check_order
from ._api import FIXED, MAPS, TELLS, io, notices, output, schema, ui, window_inputs
from ._sampling import seed_input
from ._validate import check, in_range, linked, valid

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class LikenessLayerProbe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLayerProbe",
            display_name="Layer Probe",
            category=MAPS,
            description=(
                "Tells which blocks of your model attend by position and which by content, as a table and as text for "
                "the blocks of other nodes."
            ),
            is_output_node=True,
            hidden=TELLS,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to test: SD 1.x, SD 2, SDXL or a transformer, with any LoRA."
                ),
                io.Conditioning.Input("positive", tooltip="A prompt that describes the picture."),
                io.Latent.Input(
                    "latent",
                    tooltip=(
                        "The picture: the LATENT of any sampler, or of VAE Encode. Clear subjects serve best. Several "
                        "pictures are averaged, and each costs as much as the first."
                    ),
                ),
                io.String.Input(
                    "blocks",
                    display_name="Blocks to test (blocks)",
                    default="all",
                    tooltip=(
                        "Blocks to test: names (input4, double3), ranges (output3-8), lists of them, or encoder, "
                        "decoder, early, late, all. Each costs one call of three pictures per noise level."
                    ),
                ),
                io.Float.Input(
                    "share",
                    display_name="Share of blocks per side",
                    default=0.33,
                    min=0.01,
                    max=0.5,
                    step=0.01,
                    tooltip=(
                        "Share of the blocks that CONTENT and POSITION name each: those that lean most to their side. "
                        "No neutral value; at 0.5, up to half of the blocks each."
                    ),
                ),
                io.Int.Input(
                    "noise_levels",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="Number of noise levels in the window to average over; each costs as much as the first.",
                ),
                seed_input("Seed of the noise that is added to the picture.", **FIXED),
                *window_inputs(0.2, 0.8),
            ],
            outputs=[
                io.String.Output(
                    "content",
                    display_name="CONTENT",
                    tooltip="The blocks that lean most to content, for blocks of Reference Retouch and others.",
                ),
                io.String.Output(
                    "position",
                    display_name="POSITION",
                    tooltip="The blocks that lean most to position, for blocks of other nodes.",
                ),
                io.String.Output(
                    "table", display_name="TABLE", tooltip="Both changes of every block, as a table in Markdown."
                ),
                io.Image.Output("plot", display_name="PLOT", tooltip="The same as bars."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, blocks=None, share=None, noise_levels=None, start_percent=None, end_percent=None, input_types=None
    ) -> bool | str:
        return valid(
            check(linked, cls, input_types or {}),
            check(
                in_range,
                cls,
                share=share,
                noise_levels=noise_levels,
                start_percent=start_percent,
                end_percent=end_percent,
            ),
            check(check_names, blocks, NODE, needed=True),
            check(check_order, start_percent, end_percent, NODE),
        )

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        model: ModelPatcher,
        positive: list,
        latent: dict,
        blocks: str,
        share: float,
        noise_levels: int,
        seed: int,
        start_percent: float,
        end_percent: float,
    ) -> io.NodeOutput:
        told = notices(cls)
        probed = probe(
            model,
            positive,
            latent,
            blocks=blocks,
            share=share,
            window=Window(start_percent, end_percent),
            levels=noise_levels,
            seed=seed,
            notices=told,
        )
        told.inform(f"content: {probed.content_text or 'none'}; position: {probed.position_text or 'none'}.")
        picture = plot(probed)
        return output(
            told,
            probed.content_text,
            probed.position_text,
            table(probed),
            picture,
            shown=ui.PreviewImage(picture, cls=cls),
        )
