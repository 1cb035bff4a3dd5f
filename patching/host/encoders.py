"""The text encoders of a CLIP, and the columns that their tokens have in the text that the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .pieces import Piece, pieces_of

if TYPE_CHECKING:
    from comfy.sd import CLIP

Entry = tuple[Any, float, int]
"""(token or embedding, weight, number of the word; 0 for padding)."""

_T5, _ANIMA, _MISTRAL = "t5xxl", "qwen3_06b", "mistral3_24b"
_WITHOUT_TEMPLATE = ("qwen25_7b", "qwen3vl_4b")
"""Encoders of Qwen-Image and Krea 2: the host drops the system prompt and the user's opening from the result."""
_PADDED = 512
_START_OF_TURN, _USER, _NEW_LINE = 151644, 872, 198


@dataclass(frozen=True)
class Encoder:
    """One text encoder's part of a text.

    name: its key in the host's tokens. chunks: the entries of each chunk. empty: the entries of an empty text. before:
    columns before the first entry, negative where the host drops entries. width: the number of columns.
    """

    name: str
    chunks: list[list[Entry]]
    empty: list[Entry]
    before: int
    width: int
    tokenizer: Any

    @property
    def entries(self) -> list[Entry]:
        return [entry for chunk in self.chunks for entry in chunk]

    @property
    def piece(self) -> Piece | None:
        """The text of its tokens; None for an encoder of whole words."""
        return pieces_of(self.tokenizer)

    def of_text(self) -> list[int]:
        """The indices of the entries that come from the text, without padding and the encoder's template."""
        numbers = [i for i, entry in enumerate(self.entries) if entry[2]]
        mine, template = [self.entries[i][0] for i in numbers], [entry[0] for entry in self.empty if entry[2]]
        first = _shared(mine, template)
        last = _shared(mine[first:][::-1], template[first:][::-1])
        return numbers[first : len(numbers) - last]


def encoders(clip: CLIP, text: str) -> list[Encoder]:
    """The encoders whose tokens are columns of the network's text, in the order of their columns.

    SD 3.5 has those of CLIP, then those of T5, or of the one that it was loaded with. Flux.1 has T5's alone, and Anima
    those of T5's tokens, by which its adapter asks for the text. Otherwise all of a CLIP's encoders have the same ones.
    """
    tokens, empty = (clip.tokenize(t, return_word_ids=True) for t in (text, ""))
    names = [name for name in ("l", _T5) if name in tokens] if "g" in tokens else [_T5]
    if _T5 not in tokens:
        names = list(tokens)[:1]
    elif len(names) > 1 and not _has_clip(clip):
        names = [_T5]
    elif len(names) > 1 and getattr(getattr(clip, "cond_stage_model", None), _T5, clip) is None:
        names = names[:1]
    return [_encoder(clip, name, tokens, empty) for name in names]


def _encoder(clip: CLIP, name: str, tokens: dict, empty: dict) -> Encoder:
    chunks = tokens[name]
    count, before = sum(map(len, chunks)), 0
    width = count
    if name in _WITHOUT_TEMPLATE:
        before = -_template(chunks[0])
        width = count + before
    elif name == _MISTRAL:
        before = max(0, _PADDED - count)
        width = count + before
    elif name == _T5 and _ANIMA in tokens:
        width = max(count, _PADDED)
    return Encoder(name, chunks, [e for chunk in empty[name] for e in chunk], before, width, _tokenizer(clip, name))


def _template(entries: list[Entry]) -> int:
    """The number of entries before the user's text: the second turn's start, and the user's name."""
    tokens = [entry[0] for entry in entries]
    starts = [i for i, token in enumerate(tokens) if isinstance(token, int) and token == _START_OF_TURN][:2]
    if not starts:
        return 0
    named = tokens[starts[-1] + 1 : starts[-1] + 3] == [_USER, _NEW_LINE]
    return starts[-1] + (3 if named else 0)


def _has_clip(clip: CLIP) -> bool:
    """False where an SD 3.5 was loaded with T5 alone."""
    network = getattr(clip, "cond_stage_model", None)
    return network is None or any(getattr(network, name, None) is not None for name in ("clip_l", "clip_g"))


def _tokenizer(clip: CLIP, name: str) -> Any:
    """The host's tokenizer of one encoder."""
    outer = clip.tokenizer
    for attribute in (name, f"clip_{name}", getattr(outer, "clip", "")):
        if attribute and hasattr(outer, attribute):
            return getattr(outer, attribute)
    return None


def _shared(first: list, second: list) -> int:
    """The number of equal tokens at the beginning of both."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if not (isinstance(a, int) and isinstance(b, int) and a == b):
            break
        count += 1
    return count
