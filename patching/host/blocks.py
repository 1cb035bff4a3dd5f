"""Names of attention blocks, and the text in which all nodes let users choose them. Independent of ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .quoted import shortened

KINDS = ("input", "middle", "output")
"""Kinds of a U-Net's blocks."""
TRANSFORMER_KINDS = ("double", "single", "block")
"""Kinds of a transformer's blocks: with a stream each for text and picture, with one for both, with text aside."""
PAPER, DEMO = "paper", "demo"
"""Presets that differ from node to node: the paper's blocks, and those tuned for the demo's network."""
PRESETS = {"encoder": ("input",), "decoder": ("output",), "all": (*KINDS, *TRANSFORMER_KINDS)}
TRANSFORMER_PRESETS = ("early", "late", "vital", "content")
"""Halves of a transformer in call order, and the published sets of Flux.1's layers."""

_FLUX1 = {"double": 19, "single": 38}
_PUBLISHED = {
    "vital": ("double0-2 double17-18 single6 single9 single34-35 single37"),
    "content": "double0 double7-10 double18 single6 single9 single18 single23 single26 single31 single37",
    "maps": "double10-18",
}


class Layer(NamedTuple):
    """One transformer inside a block, with ComfyUI's key for it: ("output", 3, 0)."""

    kind: str
    number: int
    index: int


@dataclass(frozen=True)
class Block:
    """A block with attention.

    kind: one of KINDS or TRANSFORMER_KINDS. number: ComfyUI's number of the block. depth: number of its transformers.
    """

    kind: str
    number: int
    depth: int

    @property
    def name(self) -> str:
        return f"{self.kind}{self.number}"

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(Layer(self.kind, self.number, i) for i in range(self.depth))


def layers_of(blocks: Iterable[Block]) -> tuple[Layer, ...]:
    """The layers of several blocks, in their order."""
    return tuple(layer for block in blocks for layer in block.layers)


def published(available: Sequence[Block]) -> dict[str, tuple[str, ...]]:
    """The names of a transformer's blocks in TRANSFORMER_PRESETS and "maps".

    vital: Flux.1's layers without which a picture falls apart (Stable Flow, arXiv 2411.14430). content: those that do
    not depend on positions (FreeFlux, arXiv 2503.16153). maps: those whose text attention is sharp (ConceptAttention,
    arXiv 2502.04320). Chroma has as many blocks as Flux.1, and so the same sets. Others have no published ones, so
    theirs are the later half.
    """
    names = [block.name for block in available]
    half = len(names) // 2
    sets = {"early": tuple(names[:half]), "late": tuple(names[half:])}
    known = all(sum(b.kind == kind for b in available) == count for kind, count in _FLUX1.items())
    for name, text in _PUBLISHED.items():
        spans = [span for span in map(_range, _words(text)) if span]
        chosen = [f"{kind}{n}" for kind, first, last in spans for n in range(first, last + 1)]
        sets[name] = tuple(chosen) if known else sets["late"]
    return sets


def text_of(blocks: Collection[Block], available: Sequence[Block]) -> str:
    """The text that `parse` reads as these blocks, with ranges for neighbors: "double0 double3-7"."""
    runs: list[list[Block]] = []
    before: Block | None = None
    for block in available:
        if block in blocks:
            if runs and runs[-1][-1] is before and runs[-1][-1].kind == block.kind:
                runs[-1].append(block)
            else:
                runs.append([block])
        before = block
    return " ".join(run[0].name + (f"-{run[-1].number}" if len(run) > 1 else "") for run in runs)


def names_of(layers: Iterable[Layer]) -> str:
    """The names of the layers' blocks for a message, with ranges for neighbors."""
    blocks = {Block(layer.kind, layer.number, 1) for layer in layers}
    last = {kind: max(b.number for b in blocks if b.kind == kind) for kind in {b.kind for b in blocks}}
    kinds = [kind for kind in (*KINDS, *TRANSFORMER_KINDS) if kind in last]
    numbered = [Block(kind, number, 1) for kind in kinds for number in range(last[kind] + 1)]
    return text_of(blocks, numbered).replace(" ", ", ")


def parse(
    text: str,
    available: Sequence[Block],
    node: str,
    own: Mapping[str, Sequence[str]] | None = None,
    widget: str = "blocks",
) -> tuple[Block, ...]:
    """The blocks named in a widget's text, in call order and without duplicates; none for an empty text.

    text: names ("input4", "double3"), ranges ("output3-8") and presets, in any case, separated by commas or spaces.
        Presets are "all", "encoder" and "decoder" of U-Nets, TRANSFORMER_PRESETS and `own`. A range covers the blocks
        with attention in it.
    available: the model's blocks in call order.
    own: the block names of the presets PAPER and DEMO of this widget; names that the model lacks are skipped.
    widget: the name of the widget that holds the text.
    Raises ValueError for a name or range that the model lacks, listing the available ones.
    """
    chosen: set[Block] = set()
    joint = any(b.kind in TRANSFORMER_KINDS for b in available)
    sets = {**(published(available) if joint else {}), **(own or {})}
    presets = (*_presets(joint), *(own or ()))
    for word in _words(text):
        known = word in presets or _range(word) is not None
        found = [b for b in available if _matches(word, b, sets)] if known and _inside(word, available) else []
        if not found:
            raise ValueError(
                f"{node}: expected blocks among {', '.join(b.name for b in available)} or one of "
                f"{', '.join(presets)}, got '{shortened(word)}'; change {widget}."
            )
        chosen.update(found)
    return tuple(b for b in available if b in chosen)


def check_names(
    text: str, node: str, widget: str = "blocks", *, paper: bool = False, demo: bool = False, needed: bool = False
) -> None:
    """Raises ValueError for text that no model could have blocks for.

    paper: the widget has the presets PAPER and DEMO. demo: it has DEMO alone. needed: the text must name a block.
    """
    presets = (*_presets(True)[:-1], *_presets(False), *((PAPER,) if paper else ()))
    if needed and not _words(text):
        raise ValueError(f"{node}: expected at least one block, got none; write {presets[-1]} into {widget}.")
    for word in _words(text):
        span = _range(word)
        if word in presets or (word == DEMO and (paper or demo)):
            continue
        if span is None or span[1] > span[2]:
            raise ValueError(
                f"{node}: expected blocks such as output4, output3-8 or double3-10, or one of {', '.join(presets)}, "
                f"got '{shortened(word)}'; change {widget}."
            )


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;]+", text.lower()) if word]


def _presets(transformer: bool) -> tuple[str, ...]:
    return (*TRANSFORMER_PRESETS, "all") if transformer else tuple(PRESETS)


def _range(word: str) -> tuple[str, int, int] | None:
    match = re.fullmatch(r"(input|middle|output|double|single|block)(\d{1,9})(?:-(\d{1,9}))?", word)
    return match and (match[1], int(match[2]), int(match[3] or match[2]))


def _inside(word: str, available: Sequence[Block]) -> bool:
    """False for a range past the model's last block, which is an error rather than a shorter range."""
    span = _range(word)
    return span is None or span[2] <= max((b.number for b in available if b.kind == span[0]), default=-1)


def _matches(word: str, block: Block, sets: Mapping[str, Sequence[str]]) -> bool:
    span = _range(word)
    if span:
        kind, first, last = span
        return block.kind == kind and first <= block.number <= last
    return block.name in sets[word] if word in sets else block.kind in PRESETS[word]
