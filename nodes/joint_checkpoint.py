"""LikenessLoadJointCheckpoint: loads a joint checkpoint (JeDi, arXiv 2407.06187)."""

from __future__ import annotations

import folder_paths

from ..patching.jedi import checkpoint
from ._api import FILES, io, schema
from ._validate import check, valid


class LikenessLoadJointCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadJointCheckpoint",
            display_name="Load Joint Checkpoint (JeDi)",
            category=FILES,
            description="Loads a joint checkpoint of nine input channels whose metadata states their order.",
            inputs=[
                io.Combo.Input(
                    "ckpt_name",
                    options=folder_paths.get_filename_list("checkpoints") or [checkpoint.NO_FILES],
                    tooltip="A file in ComfyUI's models/checkpoints. No neutral value.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="MODEL", tooltip="The joint model, for the Joint Image Sampler."),
                io.Clip.Output("clip", display_name="CLIP", tooltip="Its text encoder."),
                io.Vae.Output("vae", display_name="VAE", tooltip="Its autoencoder."),
            ],
        )

    @classmethod
    def validate_inputs(cls, ckpt_name=None) -> bool | str:
        return valid(check(checkpoint.existing, ckpt_name))

    @classmethod
    def execute(cls, ckpt_name: str) -> io.NodeOutput:
        return io.NodeOutput(*checkpoint.load(ckpt_name))
