"""Palettes with their features as safetensors files in ComfyUI's output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..features.reference_file import KINDS, parts_of, references_of
from ..features.references import References
from ..host.facts import listed, named, number, parsed, text, texts, whole
from ..host.family import FEATURES, SELF_INPUT
from ..host.files import Store, conditioning_of, conditioning_parts
from ..host.window import Window
from ..host.words import WordTokens
from .null_text import NULL_TEXT
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
    described = named(parsed(facts, "palette"), "palette")
    references = references_of(tensors, facts, LOAD, (*KINDS, NULL_TEXT))
    if _tokens(references) != parsed(facts, "tokens"):
        raise ValueError("features of as many tokens as when it was saved")
    start, end = listed(described.get("window"), "window", 2)
    # Files of an earlier version have none of the last three.
    subjects = listed(described.get("subjects", []), "subjects")
    listed(subjects, "subjects", len(references.items) if subjects else 0)
    empty = described.get("empty_prompt")
    if empty is None and any(item.kind == NULL_TEXT for item in references.items):
        raise ValueError("no empty prompt for references of null text")
    return Palette(
        references,
        blocks=texts(described.get("blocks"), "blocks"),
        family=text(described.get("family"), "family"),
        context=whole(described.get("context"), "context"),
        window=Window(number(start, "window", 0.0, 1.0), number(end, "window", 0.0, 1.0)),
        kind=text(described.get("features", SELF_INPUT), "features", FEATURES),
        subjects=tuple(None if parts is None else _subject(parts) for parts in subjects),
        empty_prompt=None if empty is None else conditioning_of(_EMPTY, tensors, empty, LOAD),
    )


def _parts(subject: Subject) -> list:
    words = subject.words
    return [list(words.tokens), words.prompt_length, subject.threshold, list(subject.blocks)]


def _subject(parts: Any) -> Subject:
    columns, length, threshold, blocks = listed(parts, "a subject", 4)
    length = whole(length, "prompt_length")
    columns = tuple(whole(column, "a token", end=length) for column in listed(columns, "tokens"))
    return Subject(WordTokens(columns, length), number(threshold, "threshold", 0.0, 1.0), texts(blocks, "blocks"))


def _tokens(references: References) -> list[dict[str, int]]:
    """Per reference, the number of kept tokens of each layer, over all noise levels where they differ."""
    found = []
    for item in references.items:
        counts: dict[str, set[int]] = {}
        for key, _, values in item.bank.items():
            counts.setdefault(str(key.layer), set()).add(values.shape[1])
        found.append({layer: max(sizes) if len(sizes) == 1 else sum(sizes) for layer, sizes in counts.items()})
    return found
