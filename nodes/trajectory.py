"""Layout trajectories: taken from a guider that sampled, saved with their features, and loaded."""

from __future__ import annotations

from ..patching.features import trajectory_file
from ..patching.layout_and_retouch.step_blended import recorded
from ._api import FILES, SAMPLE, LoadFile, Trajectory, io, schema, ui
from ._validate import check, valid


class LikenessRecordedTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessRecordedTrajectory",
            display_name="Recorded Layout",
            category=SAMPLE,
            description="The TRAJECTORY that a Two-Model Guider recorded while SamplerCustomAdvanced ran.",
            inputs=[
                io.Guider.Input("guider", tooltip="The Two-Model Guider that sampled."),
                io.Latent.Input(
                    "latent",
                    tooltip="The output of the SamplerCustomAdvanced that used this guider; it identifies the run.",
                ),
            ],
            outputs=[
                Trajectory.Output(
                    "trajectory", display_name="TRAJECTORY", tooltip="Every (sigma, latent) of the model calls."
                )
            ],
        )

    @classmethod
    def execute(cls, guider, latent) -> io.NodeOutput:
        return io.NodeOutput(recorded(guider, latent))


class LikenessSaveTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSaveTrajectory",
            display_name="Save Layout",
            category=FILES,
            description="Saves a layout's trajectory, prompts and recorded features in ComfyUI's output folder.",
            is_output_node=True,
            inputs=[
                Trajectory.Input("trajectory", tooltip="From Two-Model Sampler or Recorded Layout."),
                io.String.Input(
                    "filename_prefix", default="layout", tooltip="The file's name, below output/likeness_trajectories."
                ),
            ],
            outputs=[Trajectory.Output("trajectory", display_name="TRAJECTORY", tooltip="The same trajectory.")],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return valid(check(trajectory_file.STORE.check_prefix, filename_prefix))

    @classmethod
    def execute(cls, trajectory, filename_prefix) -> io.NodeOutput:
        path = trajectory_file.save(trajectory, filename_prefix)
        return io.NodeOutput(trajectory, ui=ui.PreviewText(f"{path.name}\n{trajectory}"))


class LikenessLoadTrajectory(LoadFile):
    store = trajectory_file.STORE

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadTrajectory",
            display_name="Load Layout",
            category=FILES,
            description=(
                "Loads a layout that Save Layout wrote, with every (sigma, latent), its prompts and its features."
            ),
            inputs=[cls.file_input()],
            outputs=[
                Trajectory.Output("trajectory", display_name="TRAJECTORY", tooltip="For layout of Reference Retouch.")
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(trajectory_file.load(file))
