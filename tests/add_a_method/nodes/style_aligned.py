"""StyleAligned: pictures in the style of a reference picture, by shared attention."""

from __future__ import annotations

from ..patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from ..patching.style_aligned.patch import StyleAlignedSettings, style_aligned
from ._api import GUIDE, ReferenceType, io, schema, window_inputs


class StyleAligned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="StyleAligned",
            display_name="Style Aligned (StyleAligned)",
            category=GUIDE,
            description=(
                "Draws new subjects in the style of a reference picture: the generated pictures attend to themselves "
                "and to the reference."
            ),
            search_aliases=["style transfer", "shared attention", "AdaIN", "style reference"],
            inputs=[
                io.Model.Input("model", tooltip="Any model. Connect the output to any sampler."),
                ReferenceType.Input(
                    "reference", tooltip="The picture with the style, from Reference Picture, with a prompt of its own."
                ),
                io.String.Input(
                    "blocks",
                    default="all",
                    tooltip=(
                        "Blocks that share attention: names (output6), ranges (output6-11), lists, encoder, decoder, "
                        "all. Neutral: empty. The paper: all."
                    ),
                ),
                io.Combo.Input(
                    "mode",
                    options=[BANKED, SEQUENTIAL, BATCHED],
                    default=BANKED,
                    tooltip=(
                        "Where features come from; the picture is the same. banked: kept in RAM from run to run. "
                        "sequential: computed before each step, for little memory. batched: in the same model call."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Mix of the model's own attention and the shared one. Neutral: 0. The paper: 1.",
                ),
                *window_inputs(),
            ],
            outputs=[io.Model.Output("model", display_name="MODEL", tooltip="The model; sample with it as usual.")],
        )

    @classmethod
    def execute(cls, model, reference, **widgets) -> io.NodeOutput:
        return io.NodeOutput(style_aligned(model, reference, StyleAlignedSettings(**widgets)))
