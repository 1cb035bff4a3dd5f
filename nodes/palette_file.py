"""Palettes in files: LikenessSavePalette and LikenessLoadPalette."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.pick_and_draw import palette_file
from ._api import FILES, LoadFile, PaletteType, io, schema, ui
from ._validate import check, valid

if TYPE_CHECKING:
    from ..patching.pick_and_draw.palette import Palette


class LikenessSavePalette(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSavePalette",
            display_name="Save Palette",
            category=FILES,
            description="Saves a palette, with the features it has so far, in ComfyUI's output folder.",
            is_output_node=True,
            inputs=[
                PaletteType.Input("palette", tooltip="From Appearance Palette."),
                io.String.Input(
                    "filename_prefix", default="subject", tooltip="The file's name, below output/likeness_palettes."
                ),
                io.Latent.Input(
                    "after",
                    optional=True,
                    tooltip=(
                        "The output of a guided sampler: the palette is saved with what that run has computed. "
                        "Neutral: not connected."
                    ),
                ),
            ],
            outputs=[PaletteType.Output("palette", display_name="PALETTE", tooltip="The same palette.")],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return valid(check(palette_file.STORE.check_prefix, filename_prefix))

    @classmethod
    def execute(cls, palette: Palette, filename_prefix: str, after: dict | None = None) -> io.NodeOutput:
        del after  # an input that makes the host run this node after the sampler
        path = palette_file.save(palette, filename_prefix)
        return io.NodeOutput(palette, ui=ui.PreviewText(f"{path.name}\n{palette}"))


class LikenessLoadPalette(LoadFile):
    store = palette_file.STORE

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadPalette",
            display_name="Load Palette",
            category=FILES,
            description="A palette that Save Palette wrote: pictures, masks, captions and features are in the file.",
            inputs=[cls.file_input()],
            outputs=[PaletteType.Output("palette", display_name="PALETTE", tooltip="For Subject Guidance.")],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(palette_file.load(file))
