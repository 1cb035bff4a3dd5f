"""Positions of a word in a prompt, in tokens of the text encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from comfy.sd1_clip import escape_important, token_weights, unescape_important

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

    Weights such as "(cat:1.2)" and "embedding:name" are read as in CLIPTextEncode. The chunks of a long prompt are
    counted consecutively. All occurrences count, of an Occurrence its own. Raises ValueError if the text does not
    contain the word.
    """
    check_word(text, word, node)
    chunks = _chunks(clip, text)
    columns = [
        sum(map(len, chunks[:i])) + j for i, chunk in enumerate(chunks) for j, token in enumerate(chunk) if token[2]
    ]
    prompt = [token for chunk in chunks for token in chunk if token[2]]
    wanted = [token for chunk in _chunks(clip, word) for token in chunk if token[2]]
    found = []
    if wanted:
        starts = [i for i in range(len(prompt) - len(wanted) + 1) if _same_tokens(prompt[i : i + len(wanted)], wanted)]
        starts = [i for i in starts if i == 0 or _ends_word(clip, prompt[i - 1], wanted[-1])]
        starts = starts[word.number : word.number + 1] if isinstance(word, Occurrence) else starts
        found = sorted({columns[i + j] for i in starts for j in range(len(wanted))})
    if not found:
        raise ValueError(_not_in_text(text, word, node))
    return WordTokens(tuple(found), sum(map(len, chunks)))


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
    got = f"'{word}'" if word.strip() else "none"
    return f"{node}: expected a word of the prompt ({', '.join(words)}), got {got}; change word."


def _chunks(clip: CLIP, text: str) -> list[list[tuple[Any, float, int]]]:
    """Entries (token or embedding, weight, 0 for padding) per column, per chunk.

    Those of the first text encoder; further ones have the same columns.
    """
    return next(iter(clip.tokenize(text, return_word_ids=True).values()))


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
