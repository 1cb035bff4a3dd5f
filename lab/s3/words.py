"""Texts of the pipeline: what a language model is asked, what is taken from its answer, and templates without one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

OBJECT, SCENE = "object", "scene"
KINDS = (OBJECT, SCENE)
COLLAGE = "{prompt}, photos of the same"
"""Prompt of a collage: JeDi appends "photos of the same" to the text of the object."""
MOST_WORDS = 60
_ASKED = {
    OBJECT: (
        "Write {count} different descriptions of one {thing}, as prompts for a text-to-image model. Each gives details "
        "of its looks: colors, material, shape, markings. Do not mention a background, and do not name people."
    ),
    SCENE: (
        "Write {count} different scenes with one {thing}, as prompts for a text-to-image model. Each says in a few "
        "words where the {thing} is and what surrounds it. Do not describe the looks of the {thing}."
    ),
}
_FORM = (
    " Write one on each line, each with the words '{thing}' and at most 25 words, without numbers and without anything "
    "else."
)
CAPTION = "Describe this picture in one sentence of at most 20 words. Call its subject '{thing}'. Answer with it alone."
LOOKS = (
    *("red", "blue", "green", "yellow", "white", "black", "brown", "striped", "spotted", "shiny", "old", "small"),
    *("wooden-looking", "pastel-colored", "two-colored", "hand-painted"),
)
PLACES = (
    *("on a beach", "in the snow", "on grass", "in a desert", "on a city street", "in a kitchen", "on a table"),
    *("in a forest", "at night", "by a window", "on a wooden floor", "in a garden", "in front of mountains"),
    *("on a bridge", "in a library", "on a blanket"),
)
STYLES = (
    *("turn it into a watercolor painting", "make it a pencil drawing", "turn it into an oil painting"),
    *("make it look like a comic", "turn it into pixel art", "make it a black and white photograph"),
    *("turn it into a pastel drawing", "make it look like a claymation film", "turn it into a stained glass window"),
    *("make it look like an old photograph", "turn it into a woodcut", "make it a 3D rendering"),
)
_CHAT = re.compile(
    r"^(sure|certainly|of course|here (are|is)|okay|i'm sorry|i am sorry|i cannot|i can't|as an ai|note:)", re.I
)


def question(kind: str, thing: str, count: int) -> str:
    """Text that asks for prompts of an object: GPT_obj or GPT_scene of JeDi (arXiv 2407.06187, Algorithm 1)."""
    return (_ASKED[kind] + _FORM).format(thing=thing, count=count)


def lines(answer: str, thing: str) -> list[str]:
    """Prompts in an answer: its lines, or the texts of a list in JSON, that name the object; none for nonsense."""
    answer = re.sub(r"<think>.*?</think>", "", answer, flags=re.S)
    parts = _listed(answer) or answer.splitlines()
    found: dict[str, str] = {}
    for part in parts:
        text = tidy(re.sub(r"^\s*(?:[-*•]|\(?\d+[.):])\s*", "", part))
        if usable(text, thing):
            found.setdefault(normal(text), text)
    return list(found.values())


def _listed(answer: str) -> list[str]:
    match = re.search(r"\[.*\]", answer, re.S)
    try:
        found = json.loads(match[0]) if match else []
    except ValueError:
        return []
    return [part for part in found if isinstance(part, str)]


def tidy(text: str) -> str:
    """One line without quotes and markup."""
    text = " ".join(text.replace("*", "").replace("`", "").split())
    while len(text) > 1 and text[0] in "\"'“‘" and text[-1] in "\"'”’":
        text = text[1:-1].strip()
    return text


def usable(text: str, thing: str) -> bool:
    """True for a text of a few words that names the object, and is no talk about the task."""
    count = len(text.split())
    if not 3 <= count <= MOST_WORDS or text.endswith(":") or _CHAT.match(text) or "<|" in text:
        return False
    return names(text, thing)


def names(text: str, thing: str) -> bool:
    """True for a text with the last word of the object's name, which is the noun, also in the plural."""
    noun = re.escape(normal(thing).split()[-1])
    return re.search(rf"\b{noun}(s|es)?\b", normal(text)) is not None


def normal(text: str) -> str:
    """Text for comparisons: lower case, without punctuation."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def templates(kind: str, thing: str, count: int) -> list[str]:
    """Prompts without a language model, at most `count`."""
    if kind == SCENE:
        return [f"a photo of a {thing} {place}" for place in PLACES[:count]]
    pairs = [f"a {first} and {second} {thing}" for first in LOOKS for second in LOOKS if first < second]
    return [f"a {look} {thing}" for look in LOOKS][:count] + pairs[: max(0, count - len(LOOKS))]


def new(texts: Iterable[str], known: Sequence[str]) -> list[str]:
    """Texts that no known one equals."""
    before = {normal(text) for text in known}
    return [text for text in texts if normal(text) not in before]
