"""LikenessCutOut: every instance of a picture's masks, cut out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_execution.graph_utils import ExecutionBlocker

from ..patching.evaluation import cut_outs, instances
from ._api import ADVANCED, MAPS, TELLS, io, notices, output, schema, ui
from ._validate import check, in_options, in_range, valid

if TYPE_CHECKING:
    import torch


class LikenessCutOut(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessCutOut",
            display_name="Cut Out",
            category=MAPS,
            description="Cuts every instance out of a picture by its mask, each into a picture of its own size.",
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="One picture; or several, with one mask for each."),
                io.Mask.Input("masks", tooltip="A mask for each instance, as SAM3 Detect gives with individual_masks."),
                io.Combo.Input(
                    "parts",
                    options=list(cut_outs.PARTS),
                    default=cut_outs.EACH_MASK,
                    tooltip=(
                        "each mask: an instance is the largest part of a mask. each connected part: one mask shows "
                        "several instances, as background removal gives. No neutral value."
                    ),
                ),
                io.Float.Input(
                    "minimum_area",
                    default=instances.LEAST_AREA,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Share of the picture below which an instance is dropped. Neutral: 0. JeDi names none.",
                ),
                io.Float.Input(
                    "maximum_area",
                    default=instances.MOST_AREA,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Share of the picture above which an instance is dropped. Neutral: 1. JeDi names none.",
                ),
                io.Combo.Input(
                    "border",
                    options=list(cut_outs.BORDER),
                    default=cut_outs.DROP,
                    tooltip=(
                        "Instances at the picture's border, which may go on beyond it. Neutral: keep. JeDi does not "
                        "say."
                    ),
                ),
                io.Combo.Input(
                    "fill",
                    options=list(cut_outs.GROUNDS),
                    default=cut_outs.TRANSPARENT,
                    **ADVANCED,
                    tooltip="Color around the instance. Neutral: transparent, which gives an alpha channel.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images", display_name="IMAGE", is_output_list=True, tooltip="The cut-outs, as a list."
                ),
                io.Mask.Output(
                    "masks", display_name="MASK", is_output_list=True, tooltip="Where each cut-out is its instance."
                ),
                io.String.Output(
                    "text", display_name="TEXT", tooltip="A line for each instance, or why it is dropped."
                ),
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(cls, parts=None, minimum_area=None, maximum_area=None, border=None, fill=None) -> bool | str:
        return valid(
            check(in_options, cls, parts=parts, border=border, fill=fill),
            check(in_range, cls, minimum_area=minimum_area, maximum_area=maximum_area),
            check(cut_outs.check_shares, minimum_area, maximum_area),
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        masks: torch.Tensor,
        parts: str,
        minimum_area: float,
        maximum_area: float,
        border: str,
        fill: str,
    ) -> io.NodeOutput:
        told = notices(cls)
        found = cut_outs.cut_out(
            image, masks, parts=parts, least=minimum_area, most=maximum_area, border=border, fill=fill
        )
        made: tuple[Any, Any] = (found.images, found.masks)
        if not found.images:
            told.tell("no instance can be cut out, so that nothing behind the node runs; its text says why.")
            made = (ExecutionBlocker(None), ExecutionBlocker(None))
        return output(told, *made, found.text, shown=ui.PreviewText(found.text))
