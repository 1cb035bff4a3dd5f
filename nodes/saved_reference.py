"""LikenessSaveReference and LikenessLoadReference: references with their features as files."""

from __future__ import annotations

from ..patching.features import reference_file as saved_references
from ._api import CATEGORY, ReferenceType, io, schema, ui


class LikenessSaveReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSaveReference",
            display_name="Save Reference",
            category=CATEGORY,
            description=(
                "Makes a reference's features for a model and a schedule ahead of time and saves them in ComfyUI's "
                "output folder."
            ),
            search_aliases=["feature bank", "save features"],
            is_output_node=True,
            inputs=[
                ReferenceType.Input("reference", tooltip="The pictures, from Reference Picture."),
                io.Model.Input(
                    "model", tooltip="The model that they will be used with; features of other weights are never used."
                ),
                io.Sigmas.Input(
                    "sigmas", tooltip="The noise levels to keep: those of the sampler, from Basic Scheduler."
                ),
                io.String.Input(
                    "blocks",
                    default="paper",
                    tooltip=(
                        "Whose features to keep, as in Multi-Source Attention Swap, whose default is paper. There is "
                        "no neutral value."
                    ),
                ),
                io.String.Input(
                    "filename_prefix", default="reference", tooltip="The file's name, below output/likeness."
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip=(
                        "The sampler's negative prompt: the side of guidance without the prompt looks at the "
                        "reference with it. Neutral: not connected, that half of the features is made in the first "
                        "run."
                    ),
                ),
            ],
            outputs=[
                ReferenceType.Output(
                    "reference", display_name="REFERENCE", tooltip="The same pictures, with their features."
                )
            ],
        )

    @classmethod
    def execute(cls, reference, model, sigmas, blocks, filename_prefix, negative=None) -> io.NodeOutput:
        saved_references.fill(reference, model, sigmas, blocks, negative)
        path = saved_references.save(reference, filename_prefix)
        return io.NodeOutput(reference, ui=ui.PreviewText(f"{path.name}\n{reference}"))


class LikenessLoadReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadReference",
            display_name="Load Reference",
            category=CATEGORY,
            description="A reference that Save Reference wrote, with its features: pictures, prompt and mask are in the file.",
            search_aliases=["feature bank", "load features"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=saved_references.STORE.names() or [saved_references.STORE.nothing],
                    tooltip="A file below output/likeness.",
                ),
            ],
            outputs=[
                ReferenceType.Output(
                    "reference", display_name="REFERENCE", tooltip="The pictures, with their features."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str = ""):
        path = saved_references.STORE.path_of(file)
        return None if path is None else (path.stat().st_mtime_ns, path.stat().st_size)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(saved_references.load(file))
