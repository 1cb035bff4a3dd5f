"""LikenessSaveTrajectory and LikenessLoadTrajectory: layouts with their features as files."""

from __future__ import annotations

from ..patching.features import trajectory_file as saved_trajectories
from ._api import CATEGORY, Trajectory, io, schema, ui


class LikenessSaveTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSaveTrajectory",
            display_name="Save Trajectory",
            category=CATEGORY,
            description="Saves a layout's trajectory, its prompts and its recorded features in ComfyUI's output folder.",
            search_aliases=["feature bank", "save layout"],
            is_output_node=True,
            inputs=[
                Trajectory.Input("trajectory", tooltip="From Step-Blended Sampler or Recorded Trajectory."),
                io.String.Input(
                    "filename_prefix", default="layout", tooltip="The file's name, below output/likeness_trajectories."
                ),
            ],
            outputs=[Trajectory.Output("trajectory", display_name="TRAJECTORY", tooltip="The same trajectory.")],
        )

    @classmethod
    def execute(cls, trajectory, filename_prefix) -> io.NodeOutput:
        path = saved_trajectories.save(trajectory, filename_prefix)
        return io.NodeOutput(trajectory, ui=ui.PreviewText(f"{path.name}\n{trajectory}"))


class LikenessLoadTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadTrajectory",
            display_name="Load Trajectory",
            category=CATEGORY,
            description=(
                "A layout that Save Trajectory wrote: every (sigma, latent), its prompts and its features are in the "
                "file."
            ),
            search_aliases=["feature bank", "load layout"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=saved_trajectories.STORE.names() or [saved_trajectories.STORE.nothing],
                    tooltip="A file below output/likeness_trajectories.",
                ),
            ],
            outputs=[
                Trajectory.Output(
                    "trajectory", display_name="TRAJECTORY", tooltip="For layout of Multi-Source Attention Swap."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str = ""):
        path = saved_trajectories.STORE.path_of(file)
        return None if path is None else (path.stat().st_mtime_ns, path.stat().st_size)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(saved_trajectories.load(file))
