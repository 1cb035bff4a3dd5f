"""Names of attention blocks, and the text in which all nodes let users choose them. Independent of ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

KINDS = ("input", "middle", "output")
PRESETS = {"encoder": ("input",), "decoder": ("output",), "all": KINDS}


class Layer(NamedTuple):
    """One transformer inside a block, with ComfyUI's key for it: ("output", 3, 0)."""

    kind: str
    number: int
    index: int


@dataclass(frozen=True)
class Block:
    """A block with attention.

    kind: one of KINDS. number: ComfyUI's number of the block. depth: number of its transformers.
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


def parse(
    text: str, available: Sequence[Block], node: str, paper: Sequence[str] = (), widget: str = "blocks"
) -> tuple[Block, ...]:
    """The blocks named in a widget's text, in call order and without duplicates; none for an empty text.

    text: names ("input4"), ranges ("output3-8") and presets ("encoder", "decoder", "all", "paper"), in any case,
        separated by commas or spaces. A range covers the blocks with attention in it.
    available: the model's blocks in call order.
    paper: the block names of the preset "paper" on this node; names that the model lacks are skipped.
    widget: the name of the widget that holds the text.
    Raises ValueError for a name or range that the model lacks, listing the available ones.
    """
    chosen: set[Block] = set()
    for word in _words(text):
        found = [b for b in available if _matches(word, b, paper)] if _inside(word, available) else []
        if not found:
            raise ValueError(
                f"{node}: expected blocks among {', '.join(b.name for b in available)} or one of "
                f"{', '.join(_presets(bool(paper)))}, got '{word}'; change {widget}."
            )
        chosen.update(found)
    return tuple(b for b in available if b in chosen)


def check_names(text: str, node: str, widget: str = "blocks", *, paper: bool = False, needed: bool = False) -> None:
    """Raises ValueError for text that no model could have blocks for.

    paper: the widget has the preset "paper". needed: the text must name a block.
    """
    presets = _presets(paper)
    if needed and not _words(text):
        raise ValueError(f"{node}: expected at least one block, got none; write {presets[-1]} into {widget}.")
    for word in _words(text):
        span = _range(word)
        if word not in presets and (span is None or span[1] > span[2]):
            raise ValueError(
                f"{node}: expected blocks such as output4 or output3-8, or one of {', '.join(presets)}, got '{word}'; "
                f"change {widget}."
            )


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;]+", text.lower()) if word]


def _presets(paper: bool) -> tuple[str, ...]:
    return (*PRESETS, "paper") if paper else tuple(PRESETS)


def _range(word: str) -> tuple[str, int, int] | None:
    match = re.fullmatch(r"(input|middle|output)(\d+)(?:-(\d+))?", word)
    return match and (match[1], int(match[2]), int(match[3] or match[2]))


def _inside(word: str, available: Sequence[Block]) -> bool:
    """False for a range past the model's last block, which is an error rather than a shorter range."""
    span = _range(word)
    return span is None or span[2] <= max((b.number for b in available if b.kind == span[0]), default=-1)


def _matches(word: str, block: Block, paper: Sequence[str]) -> bool:
    span = _range(word)
    if span:
        kind, first, last = span
        return block.kind == kind and first <= block.number <= last
    return block.name in paper if word == "paper" else block.kind in PRESETS.get(word, ())
