"""Reads a prompt whose subject stands in braces, and encodes its wordings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import folder_paths

from ..host.checks import empty_prompt, given_clip
from ..host.prompt import SubjectPrompt, SubjectText
from ..host.quoted import shortened
from ..host.words import Occurrence, check_characters, find_word, occurrences

if TYPE_CHECKING:
    from comfy.sd import CLIP

NODE = "Subject Prompt"
_SUBJECT = re.compile(r"\{([^{}]*)\}")
_ARTICLE = re.compile(r"^(?:an?|the|my|one)\s+", re.IGNORECASE)
_EMBEDDING = re.compile(r"embedding:([^\s,;(){}]+)")
_INSIDE_A_WORD = re.compile(r"\w\{|\}\w")
_MARKS = "{}()<>:|"


@dataclass(frozen=True)
class Wordings:
    """The three texts of a prompt."""

    personalized: SubjectText
    vanilla: SubjectText
    neutral: SubjectText


def word_prompt(prompt: str, token: str) -> Wordings:
    """The wordings of a prompt such as "a photo of {a dog} on the beach".

    token: the learned words, such as "sks dog", which replace the words in braces except for their article; empty:
    the words in braces serve every model. Raises ValueError unless exactly one pair of braces holds a subject.
    """
    found, said = _SUBJECT.findall(prompt), shortened(prompt)
    opening, closing = prompt.count("{"), prompt.count("}")
    if len(found) != 1 or opening != 1 or closing != 1:
        got = (opening or "none") if opening == closing else f"{opening} opening and {closing} closing braces"
        raise ValueError(
            f"{NODE}: expected one subject in braces, as in 'a photo of {{a dog}} on the beach', got {got} in "
            f"'{said}'; change text."
        )
    if _INSIDE_A_WORD.search(prompt):
        raise ValueError(f"{NODE}: expected whole words in the braces, got part of a word in '{said}'; change text.")
    inside, token = " ".join(found[0].split()), " ".join(token.split())
    article = _ARTICLE.match(f"{inside} ")
    word = inside[article.end() :] if article else inside
    if _EMBEDDING.search(inside):
        raise ValueError(
            f"{NODE}: expected the class in the braces, such as 'a dog', got '{shortened(inside)}'; write the "
            "embedding into token."
        )
    if not word or any(mark in inside for mark in _MARKS):
        raise ValueError(
            f"{NODE}: expected plain words such as 'a dog' in the braces, got '{shortened(inside)}'; write weights "
            "around the braces, as in '({a dog}:1.2)'."
        )
    if any(mark in token.replace("embedding:", "") for mark in _MARKS) or _ARTICLE.fullmatch(f"{token} "):
        raise ValueError(
            f"{NODE}: expected plain words such as 'sks dog', or 'embedding:name', got '{shortened(token)}'; change "
            "token."
        )
    lead = "" if token and _ARTICLE.match(token) else article.group() if article else ""
    called = f"{lead}{token}" if token else inside
    learned = _ARTICLE.sub("", token) if token else word
    return Wordings(
        personalized=_worded(prompt, called, learned),
        vanilla=_worded(prompt, inside, word),
        neutral=_worded("a photo of {}", called, learned),
    )


def _worded(prompt: str, subject: str, word: str) -> SubjectText:
    """The prompt with `subject` in place of its braces, and the subject's own `word`, wherever else that stands."""
    text, before = _SUBJECT.sub(lambda _: subject, prompt), prompt[: prompt.index("{")]
    return SubjectText(text, Occurrence(word, occurrences(before, word)) if occurrences(text, word) > 1 else word)


def check_embeddings(*texts: str) -> None:
    """Raises ValueError if a text names an embedding file that ComfyUI does not have; the host only logs a warning.

    Likewise for half of a character.
    """
    check_characters("".join(texts), "text, token or negative", NODE)
    files = folder_paths.get_filename_list("embeddings")
    known = {name for file in files for name in (file, str(PurePath(file).with_suffix("")))}
    for name in (name.rstrip(".") for text in texts for name in _EMBEDDING.findall(text)):
        if name not in known:
            raise ValueError(
                f"{NODE}: expected an embedding in ComfyUI's folder models/embeddings "
                f"({', '.join(sorted(files)[:8]) or 'which has none'}), got '{shortened(name)}'; change token, text or "
                "negative."
            )


def subject_prompt(
    clip: CLIP | None, prompt: str, token: str, negative: str, vanilla_clip: CLIP | None = None
) -> SubjectPrompt:
    """Encodes a prompt for both models.

    clip: the personalized model's text encoder. vanilla_clip: the vanilla model's; None: clip. Raises ValueError for a
    prompt without exactly one subject, a missing CLIP or embedding, and words that a text encoder does not find.
    """
    clip = given_clip(clip, NODE)
    vanilla_clip = vanilla_clip or clip
    check_embeddings(prompt, token, negative)
    wordings = word_prompt(prompt, token)
    for encoder, said in ((clip, wordings.personalized), (vanilla_clip, wordings.vanilla), (clip, wordings.neutral)):
        find_word(encoder, said.text, said.word, NODE)
    return SubjectPrompt(
        wordings.personalized,
        wordings.vanilla,
        wordings.neutral,
        _encode(clip, wordings.personalized.text),
        _encode(vanilla_clip, wordings.vanilla.text),
        _encode(clip, wordings.neutral.text),
        _encode(clip, negative),
        clip,
        vanilla_clip,
    )


def caption_alone(clip: CLIP | None, text: str, word: str, node: str) -> SubjectPrompt:
    """A prompt of one text for everything, from the widgets `text` and `word` of a node."""
    check_characters(text, "text", node)
    clip, said = given_clip(clip, node), SubjectText(text, word)
    encoded = _encode(clip, text)
    return SubjectPrompt(said, said, said, encoded, encoded, encoded, empty_prompt(clip, node), clip, clip)


def _encode(clip: CLIP, text: str) -> list:
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))
