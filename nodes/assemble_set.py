"""LikenessAssembleSet: a set of pictures of one subject in the format that joint models are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.evaluation import assembled
from ._api import SUBJECT, io, schema

if TYPE_CHECKING:
    import torch


class LikenessAssembleSet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessAssembleSet",
            display_name="Assemble Set",
            category=SUBJECT,
            description="Stacks pictures of one subject and their captions into a set, as run.py train joint reads it.",
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Members of the set, as a batch or as a list; each is cropped to its middle square.",
                ),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    tooltip="A caption on each line, or one for all members. JeDi: from BLIP-2. Neutral: empty.",
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=64,
                    max=2048,
                    step=64,
                    tooltip="Side of a member in pixels. JeDi's SD 1.4: 512. No neutral value.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image", display_name="IMAGE", tooltip="All members in one picture, from top to bottom."
                ),
                io.String.Output(
                    "text", display_name="TEXT", tooltip="Their captions, separated as run.py train joint reads them."
                ),
                io.Int.Output("members", display_name="MEMBERS", tooltip="Number of members."),
            ],
        )

    @classmethod
    def execute(cls, images: list[torch.Tensor], captions: list[str], size: list[int]) -> io.NodeOutput:
        return io.NodeOutput(*assembled.assembled(images, captions, size[0]))
