"""Palettes with their features as safetensors files in ComfyUI's output folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..features.reference_file import parts_of, references_of
from ..features.references import References
from ..host.family import SELF_INPUT
from ..host.files import Store, conditioning_of, conditioning_parts
from ..host.window import Window
from ..host.words import WordTokens
from .palette import Palette
from .subject import Subject

SAVE, LOAD = "Save Palette", "Load Palette"
_EMPTY = "empty_prompt"
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
    described = {
        "blocks": palette.blocks,
        "family": palette.family,
        "context": palette.context,
        "window": window,
        "features": palette.kind,
        "subjects": [None if subject is None else _parts(subject) for subject in palette.subjects],
    }
    if palette.empty_prompt is not None:
        more, described["empty_prompt"] = conditioning_parts(_EMPTY, palette.empty_prompt)
        tensors |= more
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
        # Files of an earlier version have none of these.
        kind=described.get("features", SELF_INPUT),
        subjects=tuple(None if parts is None else _subject(*parts) for parts in described.get("subjects", ())),
        empty_prompt=conditioning_of(_EMPTY, tensors, described["empty_prompt"], LOAD)
        if "empty_prompt" in described
        else None,
    )


def _parts(subject: Subject) -> list:
    words = subject.words
    return [list(words.tokens), words.prompt_length, subject.threshold, list(subject.blocks)]


def _subject(tokens: list[int], prompt_length: int, threshold: float, blocks: list[str]) -> Subject:
    return Subject(WordTokens(tuple(tokens), prompt_length), threshold, tuple(blocks))


def _tokens(references: References) -> list[dict[str, int]]:
    """Per reference, the number of kept tokens of each layer, over all noise levels where they differ."""
    found = []
    for item in references.items:
        counts: dict[str, set[int]] = {}
        for key, _, values in item.bank.items():
            counts.setdefault(str(key.layer), set()).add(values.shape[1])
        found.append({layer: max(sizes) if len(sizes) == 1 else sum(sizes) for layer, sizes in counts.items()})
    return found
