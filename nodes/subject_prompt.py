"""LikenessSubjectPrompt: one prompt with its subject in braces, worded for every model and node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.subject import prompt as subject_prompts
from ._api import SUBJECT, SubjectPromptType, io, schema, ui

if TYPE_CHECKING:
    from comfy.sd import CLIP


class LikenessSubjectPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSubjectPrompt",
            display_name="Subject Prompt",
            category=SUBJECT,
            description=(
                "Writes one prompt for all nodes: put the subject in braces, and the node makes the texts with the "
                "learned token, with the class alone, and of the subject alone."
            ),
            is_output_node=True,
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The text encoder of the personalized model, with its LoRA if it has one."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="a photo of {a dog} on the beach",
                    tooltip=(
                        "The prompt with the subject in curly braces: in 'a photo of a dog on the beach', they go "
                        "around 'a dog'. Weights go around the braces. No neutral value."
                    ),
                ),
                io.String.Input(
                    "token",
                    default="",
                    tooltip=(
                        "The words that the LoRA learned, 'sks dog', or 'embedding:name'. They replace the words in "
                        "braces, not their article. Neutral: empty, without a LoRA."
                    ),
                ),
                io.String.Input("negative", multiline=True, default="", tooltip="The negative prompt. Neutral: empty."),
                io.Clip.Input(
                    "vanilla_clip",
                    optional=True,
                    tooltip="The text encoder of the vanilla model. Neutral: not connected, clip reads both texts.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "personalized", display_name="PERSONALIZED", tooltip="The prompt with the learned token."
                ),
                io.Conditioning.Output(
                    "vanilla", display_name="VANILLA", tooltip="The prompt with the class, for the vanilla model."
                ),
                io.Conditioning.Output(
                    "neutral",
                    display_name="NEUTRAL",
                    tooltip="'a photo of' the subject alone, for Reference Picture.",
                ),
                io.Conditioning.Output("negative", display_name="NEGATIVE", tooltip="The negative prompt."),
                SubjectPromptType.Output(
                    "prompt", display_name="PROMPT", tooltip="Texts and words for the nodes that locate the subject."
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, text: str | None = None, token: str | None = None, negative: str | None = None
    ) -> bool | str:
        """Checks the texts when the graph is queued; those that come from a link are None until then."""
        try:
            subject_prompts.check_embeddings(*(said for said in (text, token, negative) if said is not None))
            if text is not None:
                subject_prompts.word_prompt(text, token or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, clip: CLIP, text: str, token: str, negative: str, vanilla_clip: CLIP | None = None
    ) -> io.NodeOutput:
        made = subject_prompts.subject_prompt(clip, text, token, negative, vanilla_clip)
        return io.NodeOutput(
            made.personalized_conditioning,
            made.vanilla_conditioning,
            made.neutral_conditioning,
            made.negative_conditioning,
            made,
            ui=ui.PreviewText(str(made)),
        )
