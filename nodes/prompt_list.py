"""LikenessPromptList: one prompt per line, for the pictures of a set."""

from __future__ import annotations

from ..patching.host.words import check_characters
from ..patching.jedi import prompts
from ._api import SUBJECT, io, schema
from ._validate import check, valid


class LikenessPromptList(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessPromptList",
            display_name="Prompt List",
            category=SUBJECT,
            description="Encodes one prompt per line: one for each picture of the Joint Image Sampler.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the model that samples."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="One prompt per line; empty lines are skipped. No neutral value.",
                ),
                io.String.Input(
                    "prefix",
                    default="",
                    optional=True,
                    tooltip="Start of every prompt, such as the subject: 'a photo of a cat'. Neutral: empty.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "prompts",
                    display_name="PROMPTS",
                    is_output_list=True,
                    tooltip="The prompts, in the order of the lines.",
                ),
                io.String.Output(
                    "texts",
                    display_name="TEXTS",
                    is_output_list=True,
                    tooltip="The prompts as texts, such as for Subject Prompt.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, text=None, prefix=None) -> bool | str:
        return valid(
            check(prompts.check_lines, text),
            check(check_characters, prefix, "prefix", prompts.NODE),
        )

    @classmethod
    def execute(cls, clip, text: str, prefix: str = "") -> io.NodeOutput:
        return io.NodeOutput(prompts.encode_lines(clip, text, prefix), prompts.split_lines(text, prefix))
