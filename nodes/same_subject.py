"""LikenessSameSubject: the pictures among several that show one subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.evaluation import same_pictures
from ..patching.evaluation.same_subject import THRESHOLD
from ._api import SUBJECT, MetricsType, io, schema, ui

if TYPE_CHECKING:
    import torch

    from ..patching.evaluation.metrics import Metrics


class LikenessSameSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSameSubject",
            display_name="Same Subject",
            category=SUBJECT,
            description="Keeps the largest group of pictures of which every pair is similar enough, and says why.",
            is_input_list=True,
            is_output_node=True,
            inputs=[
                MetricsType.Input("metrics", tooltip="From Likeness Metrics. JeDi: clip-vit-base-patch32."),
                io.Image.Input(
                    "images",
                    tooltip="Pictures of any sizes, as a batch or as a list; white is seen where they are transparent.",
                ),
                io.Float.Input(
                    "threshold",
                    display_name="Threshold of pairs",
                    default=THRESHOLD,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Cosine below which a pair is not of one subject. Neutral: -1, all are kept. JeDi's value is "
                        "not known; `run.py s3 calibrate` measures one."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images", display_name="IMAGE", is_output_list=True, tooltip="The pictures of one subject."
                ),
                io.Int.Output(
                    "numbers",
                    display_name="NUMBERS",
                    is_output_list=True,
                    tooltip="Their places among all pictures, from 1.",
                ),
                io.String.Output("text", display_name="TEXT", tooltip="A line for each picture, with its similarity."),
            ],
        )

    @classmethod
    def execute(cls, metrics: list[Metrics], images: list[torch.Tensor], threshold: list[float]) -> io.NodeOutput:
        found = same_pictures.same(metrics[0], images, threshold[0])
        return io.NodeOutput(found.images, found.numbers, found.text, ui=ui.PreviewText(found.text))
