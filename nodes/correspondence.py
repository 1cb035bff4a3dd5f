"""LikenessCorrespondence: maps of where a point of a picture looks in the other pictures of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.features.correspondences import NODE, correspondences
from ..patching.features.looking import Point
from ..patching.features.word_maps import GROUPINGS, SIZE
from ..patching.host.blocks import check_names
from ..patching.host.failures import leaving_nothing
from ..patching.host.window import Window, check_order
from ._api import FIXED, MAPS, io, schema, ui, window_inputs
from ._sampling import seed_input
from ._validate import check, in_options, in_range, linked, valid

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider
    from comfy.sd import VAE


class LikenessCorrespondence(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessCorrespondence",
            display_name=f"{NODE} (JeDi)",
            category=MAPS,
            description=(
                "Maps where one point of a picture looks in the other pictures of its set, or in a retouch's "
                "reference, by the run's own attention. Click on the preview to choose the point, then run again."
            ),
            is_output_node=True,
            inputs=[
                io.Guider.Input(
                    "guider",
                    tooltip=(
                        "The guider that has made the pictures: Joint Guider, or ComfyUI's CFGGuider or BasicGuider "
                        "with a model from Reference Retouch."
                    ),
                ),
                io.Latent.Input(
                    "latent", tooltip="The finished pictures: the LATENT of the guider's own sampler, unchanged."
                ),
                _percent("x", "from the left"),
                _percent("y", "from the top"),
                io.Int.Input(
                    "picture",
                    display_name="Picture of the point",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip=(
                        "The picture that holds the point, from 1. References of a set follow after its pictures. A "
                        "click on the preview sets it. No neutral value."
                    ),
                ),
                io.String.Input(
                    "blocks",
                    display_name="Where to read (blocks)",
                    default="all",
                    tooltip=(
                        "Attention blocks to read: names (input4), ranges (output3-8), lists, or encoder, decoder, "
                        "all. Only those count in which the pictures look at each other."
                    ),
                ),
                io.Combo.Input(
                    "group_by",
                    options=list(GROUPINGS),
                    default=SIZE,
                    tooltip=(
                        "Heatmaps of all blocks together, or one row per part (encoder, middle, decoder), per block, "
                        "or per size of the feature maps. The paper: size."
                    ),
                ),
                *window_inputs(0.2, 0.8),
                io.Int.Input(
                    "noise_levels",
                    default=2,
                    min=1,
                    max=100,
                    tooltip=(
                        "Number of noise levels in the window to average over; each costs one model call. Neutral: 1. "
                        "The paper does not tell its own."
                    ),
                ),
                seed_input("Seed of the noise that is added to the pictures.", **FIXED),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip=(
                        "Decodes the pictures under the maps. Not connected: their colors are approximated from the "
                        "latent."
                    ),
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "heatmaps",
                    display_name="HEATMAPS",
                    tooltip=(
                        "0 to 1 per picture, as large as the point's own picture; all pictures of the first group come "
                        "first."
                    ),
                ),
                io.Image.Output(
                    "preview",
                    display_name="PREVIEW",
                    tooltip=(
                        "The pictures in a row, and below it a row of heatmaps per group. Rings mark the point and the "
                        "place that it looks at most."
                    ),
                ),
                io.String.Output(
                    "shares",
                    display_name="SHARES",
                    tooltip="The part of the point's attention on each picture, one line per group.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        x=None,
        y=None,
        picture=None,
        blocks=None,
        group_by=None,
        start_percent=None,
        end_percent=None,
        input_types=None,
    ) -> bool | str:
        return valid(
            check(linked, cls, input_types or {}),
            check(in_range, cls, x=x, y=y, picture=picture, start_percent=start_percent, end_percent=end_percent),
            check(in_options, cls, group_by=group_by),
            check(check_names, blocks, NODE, needed=True),
            check(check_order, start_percent, end_percent, NODE),
        )

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        guider: CFGGuider,
        latent: dict,
        x: float,
        y: float,
        picture: int,
        start_percent: float,
        end_percent: float,
        noise_levels: int,
        vae: VAE | None = None,
        **widgets,
    ) -> io.NodeOutput:
        found = correspondences(
            guider,
            latent,
            point=Point(picture - 1, x / 100, y / 100),
            window=Window(start_percent, end_percent),
            levels=noise_levels,
            vae=vae,
            **widgets,
        )
        sheet = found.sheet
        shown = {**ui.PreviewImage(sheet.pixels, cls=cls).as_dict(), "likeness_sheet": [sheet.places]}
        return io.NodeOutput(found.heatmaps, sheet.pixels, "\n".join(found.shares), ui=shown)


def _percent(name: str, origin: str) -> io.Input:
    return io.Float.Input(
        name,
        display_name=f"Point: {name} (percent)",
        default=50.0,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip=f"The point's place in percent {origin}. A click on the preview sets it. No neutral value.",
    )
