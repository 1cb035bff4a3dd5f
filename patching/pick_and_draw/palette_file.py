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
STORE = Store("likeness_palettes", "likeness_palette", 1, "palette", "Save Palette", LOAD)


def save(palette: Palette, prefix: str) -> Path:
    """Writes a numbered file below the output folder."""
    tensors, facts = parts_of(palette.references, SAVE)
    window = [palette.window.start_percent, palette.window.end_percent]
    described = {"blocks": palette.blocks, "family": palette.family, "context": palette.context, "window": window}
    pixels = [None if item.mask is None else int((item.mask > 0.5).sum()) for item in palette.references.items]
    counts = {"mask_pixels": json.dumps(pixels), "tokens": json.dumps(_tokens(palette.references))}
    return STORE.write(prefix, tensors, {**facts, **counts, "palette": json.dumps(described)})


def load(name: str) -> Palette:
    """Raises FileNotFoundError or ValueError in one sentence."""
    return STORE.read(name, _palette)


def _palette(tensors: dict[str, torch.Tensor], facts: dict[str, str]) -> Palette:
    described = json.loads(facts["palette"])
    references = references_of(tensors, facts, LOAD)
    if _tokens(references) != json.loads(facts["tokens"]):
        raise ValueError("features of as many tokens as when it was saved")
    window = Window(*described["window"])
    return Palette(references, tuple(described["blocks"]), described["family"], int(described["context"]), window)


def _tokens(references: References) -> list[dict[str, int]]:
    """By reference, the number of tokens that are kept of each layer."""
    return [{str(key.layer): values.shape[1] for key, _, values in item.bank.items()} for item in references.items]
