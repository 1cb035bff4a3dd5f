"""Prompts of a set: encoded line by line, and stacked into one CONDITIONING with a row for each picture."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch

from ..host.same import same
from ..host.words import check_characters

if TYPE_CHECKING:
    from comfy.sd import CLIP

NODE = "Prompt List"
_POOLED = "pooled_output"


def encode_lines(clip: CLIP | None, text: str, prefix: str) -> list[list]:
    """One CONDITIONING for each line that is not empty, `prefix` before each.

    Raises ValueError for a text without lines, and without a CLIP.
    """
    if clip is None:
        raise ValueError(f"{NODE}: expected a CLIP, got none, as from a checkpoint without one; connect a CLIP loader.")
    return [clip.encode_from_tokens_scheduled(clip.tokenize(line)) for line in split_lines(text, prefix)]


def split_lines(text: str, prefix: str) -> list[str]:
    """Every line that is not empty, with `prefix` before it. Raises ValueError for a text without lines."""
    check_lines(text)
    check_characters(prefix, "prefix", NODE)
    return [f"{prefix.strip()} {line.strip()}".strip() for line in text.splitlines() if line.strip()]


def check_lines(text: str) -> None:
    """Raises ValueError for a text without lines, and for half of a character."""
    check_characters(text, "text", NODE)
    if not text.strip():
        raise ValueError(f"{NODE}: expected at least one prompt, got none; write one prompt per line into text.")


def stacked(texts: Sequence[list], pooled: bool, node: str) -> list:
    """Stacks CONDITIONINGs of one entry into one entry of [len(texts), tokens, width].

    Shorter texts are repeated up to the common length. pooled: the model uses pooled outputs, which are stacked too.
    Raises ValueError for texts that differ in anything but their tokens.
    """
    entries = check_alike(texts, () if pooled else (_POOLED,), node)
    first, facts = entries[0]
    # Cross-attention gives the same result for a repeated text; the host pads prompts of different lengths this way.
    longest = math.lcm(*(text.shape[1] for text, _ in entries))
    rows = torch.cat([text.to(first).repeat(1, longest // text.shape[1], 1) for text, _ in entries])
    if _POOLED not in facts:
        return [[rows, facts]]
    return [[rows, {**facts, _POOLED: torch.cat([rest[_POOLED].to(facts[_POOLED]) for _, rest in entries])}]]


def check_alike(texts: Sequence[list], left_out: Collection[str], node: str) -> list[tuple[torch.Tensor, dict]]:
    """The features of each text and what else is known of it, without the names in `left_out`.

    Raises ValueError for texts that differ in anything but their tokens and pooled outputs.
    """
    entries = [
        (text[0][0], {k: v for k, v in text[0][1].items() if v is not None and k not in left_out}) for text in texts
    ]
    first, facts = entries[0]
    for text, rest in entries:
        if len(text) != 1:
            raise ValueError(
                f"{node}: expected prompts and captions of one text each, got a batch of {len(text)} in one; "
                "connect the output of CLIPTextEncode itself, or of Prompt List."
            )
        if text.shape[2] != first.shape[2]:
            raise ValueError(
                f"{node}: expected prompts and captions of one text width, got {first.shape[2]} and {text.shape[2]}; "
                "encode all of them with the same CLIP."
            )
        unlike = sorted(k for k in {*rest, *facts} if k != _POOLED and not same(rest.get(k), facts.get(k)))
        if unlike or (_POOLED in rest) != (_POOLED in facts):
            raise ValueError(
                f"{node}: expected prompts and captions that differ in their text alone, got others in "
                f"{', '.join(unlike) or _POOLED}; encode all of them with the same kind of node and the same settings."
            )
    return entries
