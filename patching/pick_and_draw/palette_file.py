"""Palettes with their features as safetensors files in ComfyUI's output folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..features.reference_file import parts_of, references_of
from ..features.references import References
from ..host.files import Store
from ..host.window import Window
from .palette import Palette

SAVE, LOAD = "LikenessSavePalette", "LikenessLoadPalette"
STORE = Store(
    folder="likeness_palettes",
    form="likeness_palette",
    version=1,
    what="palette",
    saver="Save Palette",
    loader=LOAD,
)


def save(palette: Palette, prefix: str) -> Path:
    """Writes a numbered file below the output folder and returns its path.

    prefix: its name below output/likeness_palettes. Raises ValueError for one that leads out of the folder.
    """
    tensors, facts = parts_of(palette.references, SAVE)
    window = [palette.window.start_percent, palette.window.end_percent]
    described = {"blocks": palette.blocks, "family": palette.family, "context": palette.context, "window": window}
    pixels = [None if item.mask is None else int((item.mask > 0.5).sum()) for item in palette.references.items]
    counts = {"mask_pixels": json.dumps(pixels), "tokens": json.dumps(_tokens(palette.references))}
    return STORE.write(prefix, tensors, {**facts, **counts, "palette": json.dumps(described)})


def load(name: str) -> Palette:
    """Reads a saved palette by its name below the folder.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one.
    """
    return STORE.read(name, _palette)


def _palette(tensors: dict[str, torch.Tensor], facts: dict[str, str]) -> Palette:
    described = json.loads(facts["palette"])
    references = references_of(tensors, facts, LOAD)
    if _tokens(references) != json.loads(facts["tokens"]):
        raise ValueError("features of as many tokens as when it was saved")
    window = Window(*described["window"])
    return Palette(
        references,
        blocks=tuple(described["blocks"]),
        family=described["family"],
        context=int(described["context"]),
        window=window,
    )


def _tokens(references: References) -> list[dict[str, int]]:
    """Per reference, the number of kept tokens of each layer."""
    return [{str(key.layer): values.shape[1] for key, _, values in item.bank.items()} for item in references.items]
