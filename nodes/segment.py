"""LikenessSegment: the subject's mask, by Segment Anything."""

from __future__ import annotations

from ..kernels.heatmaps import overlay
from ..patching.layout_and_retouch import segment
from ._api import MAPS, io, schema, ui
from ._validate import check, linked, valid


class LikenessSegment(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        found = segment.checkpoints() or [segment.MISSING]
        return schema(
            node_id="LikenessSegment",
            display_name="Segment the Subject",
            category=MAPS,
            description=(
                "Masks one object in a picture with Segment Anything and a checkpoint from models/sams. The object is "
                "given by the heatmap of a word, by points or by a box."
            ),
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The picture, or a batch of them."),
                io.Combo.Input(
                    "checkpoint",
                    options=found,
                    tooltip=(
                        "A Segment Anything checkpoint in models/sams: vit_b, vit_l or vit_h. The paper uses Segment "
                        "Anything and does not say which; vit_h is the largest."
                    ),
                ),
                io.Float.Input(
                    "threshold",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Heat, from 0 to 1, above which the area around the peak makes the box. Neutral: 0, the "
                        "whole picture. The paper does not say how it prompts; 0.3 is ours."
                    ),
                ),
                io.String.Input(
                    "inside",
                    default="",
                    tooltip="Points on the object, in pixels: 'x,y; x,y'. Neutral: empty, the heatmap's peak alone.",
                ),
                io.String.Input(
                    "outside", default="", tooltip="Points outside the object: 'x,y; x,y'. Neutral: empty."
                ),
                io.String.Input(
                    "box",
                    default="",
                    tooltip="A box around the object: 'left,top,right,bottom'. Neutral: empty, the box of the heatmap.",
                ),
                io.Mask.Input(
                    "heatmap",
                    optional=True,
                    tooltip="Attention of the subject's word, from Attention Maps of a Word; it gives box and point.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "mask", display_name="MASK", tooltip="The object, 1 inside and 0 outside, as large as the picture."
                ),
                io.Image.Output("preview", display_name="PREVIEW", tooltip="The mask over the picture."),
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint=None, inside=None, outside=None, box=None, input_types=None) -> bool | str:
        types = input_types or {}
        return valid(
            check(linked, cls, types),
            check(segment.check_texts, inside, outside, box, "heatmap" in types),
            check(segment.existing, checkpoint),
        )

    @classmethod
    def execute(cls, image, checkpoint, threshold, inside, outside, box, heatmap=None) -> io.NodeOutput:
        prompts = segment.prompts(image, heatmap, threshold=threshold, inside=inside, outside=outside, box=box)
        mask = segment.segment(segment.load(checkpoint), image, prompts)
        preview = overlay(image[..., :3].float().cpu(), mask)
        return io.NodeOutput(mask, preview, ui=ui.PreviewImage(preview, cls=cls))
