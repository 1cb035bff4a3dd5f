"""Positions of a word in a prompt, in tokens of the text encoders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from comfy.sd1_clip import escape_important, token_weights, unescape_important

from .encoders import Encoder, encoders
from .pieces import standing
from .quoted import shortened

if TYPE_CHECKING:
    from comfy.sd import CLIP

_HALF = re.compile("[\ud800-\udfff]")


class Occurrence(str):
    """A word of which one occurrence in its text is meant, not all. number: of earlier ones in the text."""

    number: int

    def __new__(cls, word: str, number: int) -> Occurrence:
        made = super().__new__(cls, word)
        made.number = number
        return made


@dataclass(frozen=True)
class WordTokens:
    """Positions of a word in an encoded prompt.

    tokens: columns of all occurrences, in order. prompt_length: the number of columns.
    """

    tokens: tuple[int, ...]
    prompt_length: int


def find_word(clip: CLIP, text: str, word: str, node: str) -> WordTokens:
    """The columns of `word`, a word or a phrase, in the encoding of `text` by `clip`.

    Weights such as "(cat:1.2)" and "embedding:name" are read as in CLIPTextEncode. The chunks of a long prompt and
    several text encoders are counted consecutively. All occurrences count, of an Occurrence its own. Raises ValueError
    if the text does not contain the word.
    """
    check_word(text, word, node)
    found, length = [], 0
    for encoder in encoders(clip, text):
        found += [length + encoder.before + i for i in _entries_of(clip, encoder, word)]
        length += encoder.width
    found = [column for column in found if 0 <= column < length]
    if not found:
        raise ValueError(
            f"{node}: expected a word that the text encoder knows, got '{word}'; change word, and write the prompt "
            "with the new one."
        )
    return WordTokens(tuple(found), length)


def _entries_of(clip: CLIP, encoder: Encoder, word: str) -> list[int]:
    """The indices of the word's entries in an encoder's part of a text."""
    mine, entries = encoder.of_text(), encoder.entries
    number = slice(word.number, word.number + 1) if isinstance(word, Occurrence) else slice(None)
    piece = encoder.piece
    if piece is not None:
        places = standing(_plain(word), [entries[i][0] for i in mine], piece)[number]
        if places:
            return sorted({mine[i] for place in places for i in place})
    asked = next(e for e in encoders(clip, word) if e.name == encoder.name)
    wanted, prompt = [asked.entries[i] for i in asked.of_text()], [entries[i] for i in mine]
    if not wanted or (piece is not None and not any(isinstance(entry[0], torch.Tensor) for entry in wanted)):
        return []
    starts = [i for i in range(len(prompt) - len(wanted) + 1) if _same_tokens(prompt[i : i + len(wanted)], wanted)]
    starts = [i for i in starts if i == 0 or _ends_word(clip, prompt[i - 1], wanted[-1])][number]
    return sorted({mine[i + j] for i in starts for j in range(len(wanted))})


def check_word(text: str, word: str, node: str) -> None:
    """Raises ValueError if `text` does not contain `word`; needs no text encoder."""
    check_characters(text, "text", node)
    check_characters(word, "word", node)
    if not _plain(text):
        raise ValueError(f"{node}: expected a prompt, got an empty one; write the prompt with the word into text.")
    if not _plain(word) or not _stands_in(_plain(word), _plain(text)):
        raise ValueError(_not_in_text(text, word, node))


def check_characters(text: str, widgets: str, node: str) -> None:
    """Raises ValueError for half of a character, which no text encoder reads. JSON alone can carry it."""
    half = _HALF.search(text)
    if half:
        raise ValueError(
            f"{node}: expected whole characters in {widgets}, got half of one (U+{ord(half.group()):X}), as of an "
            f"emoji that was cut; change {widgets}."
        )


def occurrences(text: str, word: str) -> int:
    """The number of times that a word stands in a text; needs no text encoder."""
    return len(re.findall(_whole(_plain(word)), _plain(text)))


def _not_in_text(text: str, word: str, node: str) -> str:
    words = dict.fromkeys(re.findall(r"[^\s,.;!?()]+", _plain(text)))
    got = f"'{shortened(word)}'" if word.strip() else "none"
    return f"{node}: expected a word of the prompt ({shortened(', '.join(words), 400)}), got {got}; change word."


def _plain(text: str) -> str:
    """The text in lower case, without weights and with single spaces."""
    segments = (unescape_important(segment) for segment, _ in token_weights(escape_important(text), 1.0))
    return " ".join("".join(segments).lower().split())


def _stands_in(word: str, text: str) -> bool:
    """True if the text contains the whole word. Tokens alone cannot tell, since unknown words may share one."""
    return re.search(_whole(word), text) is not None


def _whole(word: str) -> str:
    """The pattern of a whole word."""
    return rf"(?<![a-z0-9_]){re.escape(word)}(?![a-z0-9_])"


def _same_tokens(first: list, second: list) -> bool:
    return all(_same(a[0], b[0]) for a, b in zip(first, second, strict=True))


def _same(first, second) -> bool:
    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        return isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and torch.equal(first, second)
    return first == second


def _ends_word(clip: CLIP, before, last) -> bool:
    """True if the token before the word ends another word: "tigercat" has the tokens "tiger" and "cat"."""
    tokenizer = clip.tokenizer
    inner = getattr(tokenizer, getattr(tokenizer, "clip", "clip_l"), None) or getattr(tokenizer, "clip_l", None)
    names = getattr(inner, "inv_vocab", {})
    names = [names.get(token[0], "") if isinstance(token[0], int) else "" for token in (before, last)]
    return not names[1].endswith("</w>") or not names[0] or names[0].endswith("</w>")


def same_text(text: torch.Tensor, other: torch.Tensor) -> bool:
    """True if the features of two prompts, [rows, tokens, width], differ by rounding only."""
    return text.shape == other.shape and torch.allclose(
        text.float(), other.to(text.device).float(), rtol=0, atol=0.01 * float(text.abs().max())
    )
