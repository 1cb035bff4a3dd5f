"""The text behind the tokens of T5 and of language models, whose tokens are parts of words with the space before."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch

_SPACE_OF_SENTENCEPIECE, _SPACE_OF_BYTES = "\u2581", "\u0120"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_UNKNOWN = "\ufffd".encode()
_WEIGHTS = r"(?:\s|[()]|:[\d.]+\))+"
"""Between the words of a phrase: spaces, and the weights that encoders without weights read as text."""

Piece = Callable[[Any], bytes]
"""The text of a token in UTF-8, which may be a part of a character."""


def pieces_of(tokenizer: Any) -> Piece | None:
    """The pieces of one of the host's tokenizers; None for whole words, such as CLIP's.

    tokenizer: with `inv_vocab`, {token: piece}, as `SDTokenizer` has.
    """
    names: dict[int, str] = getattr(tokenizer, "inv_vocab", {})
    known = names.values()
    if _SPACE_OF_SENTENCEPIECE in known:
        read = _sentencepiece
    elif f"{_SPACE_OF_BYTES}a" in known:
        read = _byte_level
    else:
        return None
    return lambda token: _UNKNOWN if isinstance(token, torch.Tensor) else read(names.get(token, "<unk>"))


def standing(word: str, tokens: Sequence, piece: Piece) -> list[list[int]]:
    """The indices of the tokens of each occurrence of a whole word or phrase, in any case.

    word: in single spaces. tokens: in the order of the text.
    """
    parts = [piece(token) for token in tokens]
    edges = [0, *accumulate(len(part) for part in parts)]
    # One character for each byte that is no text, so that lengths agree.
    text = b"".join(parts).decode("utf-8", "surrogateescape")
    found = []
    for match in re.finditer(_pattern(word), text, re.IGNORECASE):
        spans = [[_size(text[:at]) for at in match.span(i + 1)] for i in range(len(match.groups()))]
        covers = [any(end > first and start < last for first, last in spans) for start, end in pairwise(edges)]
        found.append([i for i, covered in enumerate(covers) if covered])
    return found


def _size(text: str) -> int:
    """The length in bytes."""
    return len(text.encode("utf-8", "surrogateescape"))


def _pattern(word: str) -> str:
    phrase = _WEIGHTS.join(f"({re.escape(part)})" for part in word.split())
    return rf"(?<![a-z0-9_]){phrase}(?![a-z0-9_])"


def _sentencepiece(name: str) -> bytes:
    if name == "<unk>":
        return _UNKNOWN
    byte = _BYTE.fullmatch(name)
    return bytes.fromhex(byte[1]) if byte else name.replace(_SPACE_OF_SENTENCEPIECE, " ").encode()


def _byte_level(name: str) -> bytes:
    return b"".join(bytes([_BYTES[c]]) if c in _BYTES else c.encode() for c in name)


def _bytes_by_character() -> dict[str, int]:
    """GPT-2's names of bytes: printable ones are themselves, the others follow at 256."""
    printable = (*range(33, 127), *range(161, 173), *range(174, 256))
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _bytes_by_character()
