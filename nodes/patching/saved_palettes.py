"""Palettes with their features as safetensors files in ComfyUI's output folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from .palette import Palette
from .saved_files import Store
from .saved_references import parts_of, references_of
from .window import Window

SAVE, LOAD = "LikenessSavePalette", "LikenessLoadPalette"
STORE = Store("likeness_palettes", "likeness_palette", 1, "palette", "Save Palette", LOAD)


def save(palette: Palette, prefix: str) -> Path:
    """Writes a numbered file below the output folder."""
    tensors, facts = parts_of(palette.references, SAVE)
    window = [palette.window.start_percent, palette.window.end_percent]
    described = {"blocks": palette.blocks, "family": palette.family, "context": palette.context, "window": window}
    tokens = [None if item.mask is None else int((item.mask > 0.5).sum()) for item in palette.references.items]
    return STORE.write(prefix, tensors, {**facts, "palette": json.dumps(described), "mask_pixels": json.dumps(tokens)})


def load(name: str) -> Palette:
    """Raises FileNotFoundError or ValueError in one sentence."""
    return STORE.read(name, _palette)


def _palette(tensors: dict[str, torch.Tensor], facts: dict[str, str]) -> Palette:
    described = json.loads(facts["palette"])
    references = references_of(tensors, facts, LOAD)
    window = Window(*described["window"])
    return Palette(references, tuple(described["blocks"]), described["family"], int(described["context"]), window)
