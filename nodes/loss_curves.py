"""LikenessLossCurves: the curves of UREMDGuidance's losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.pick_and_draw.loss_plot import plot
from ._api import GUIDE, LossesType, io, schema, ui

if TYPE_CHECKING:
    from ..patching.pick_and_draw.loss_log import LossLog


class LikenessLossCurves(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLossCurves",
            display_name="Loss Curves",
            category=GUIDE,
            description="Plots Subject Guidance's two losses over the gradient steps.",
            is_output_node=True,
            inputs=[
                LossesType.Input("losses", tooltip="From Subject Guidance."),
                io.Latent.Input(
                    "latent",
                    tooltip="The output of the sampler that uses the guided model; the curves are drawn after it.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "curves", display_name="CURVES", tooltip="Bold: the mean of the batch; pale: each image."
                )
            ],
        )

    @classmethod
    def execute(cls, losses: LossLog, latent: dict) -> io.NodeOutput:
        picture = plot(losses, len(latent["samples"]))
        return io.NodeOutput(picture, ui=ui.PreviewImage(picture, cls=cls))
