"""Parsers of what anybody may write into widgets and files: what they may return, and how they refuse."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import folder_paths
import torch
from likeness.kernels.jedi import ORDERS
from likeness.patching.host import blocks
from likeness.patching.host.words import check_word, occurrences
from likeness.patching.jedi.format import METADATA_KEY, JointFormat
from likeness.patching.layout_and_retouch import segment, segmenter
from likeness.patching.pick_and_draw import build_template
from likeness.patching.subject.prompt import word_prompt
from likeness.tests.patching.host.mutations import joined, parts
from likeness.tests.patching.host.saved_files import FORMATS, given

U_NET = [blocks.Block(kind, n, 1) for kind in blocks.KINDS for n in (range(9) if kind != "middle" else (0,))]
FLUX = [blocks.Block("double", n, 1) for n in range(19)] + [blocks.Block("single", n, 1) for n in range(38)]
LONGEST = 700
"""Characters of a sentence on a node."""


def is_sentence(text: str, node: str = "") -> bool:
    """True for one line that says what was expected, and begins with a node's name if one is given.

    A plain bool keeps pytest from printing its parts.
    """
    begins = text.startswith(f"{node}: expected ") if node else "expected " in text
    return begins and text.endswith(".") and "\n" not in text and len(text) < LONGEST


def block_text(text: str) -> None:
    """Blocks of both kinds of networks: `text_of` and `parse` are inverse."""
    blocks.check_names(text, "Node", paper=True)
    for available in (U_NET, FLUX):
        own = {blocks.PAPER: [available[0].name], blocks.DEMO: [available[-1].name]}
        try:
            chosen = blocks.parse(text, available, "Node", own)
        except ValueError as error:
            assert is_sentence(str(error))
            continue
        assert blocks.parse(blocks.text_of(chosen, available), available, "Node") == chosen


def subject_text(text: str) -> None:
    """A prompt and, after a line break, a token: every wording has its subject and no braces."""
    prompt, _, token = text.partition("\n")
    made = word_prompt(prompt, token)
    for wording in (made.personalized, made.vanilla, made.neutral):
        assert wording.word and wording.word in wording.text and not re.search("[{}]", wording.text)


def box_lines(text: str) -> None:
    """Boxes of a template: each covers a part of the picture."""
    build_template.check_boxes(text, False)
    mask = build_template._boxes(text, 64, 64)
    assert mask.shape == (64, 64) and float(mask.min()) >= 0 and float(mask.max()) <= 1


def points(text: str) -> None:
    """Points on a subject: pairs of finite numbers."""
    for found in segment._numbers(text, 2, "inside"):
        assert len(found) == 2 and all(map(math.isfinite, found))


def word(text: str) -> None:
    """A prompt and, after a line break, a word that stands in it."""
    prompt, _, found = text.partition("\n")
    check_word(prompt, found, "Node")
    assert occurrences(prompt, found) > 0


def joint_format(text: str) -> None:
    """Metadata of a joint checkpoint."""
    try:
        made = JointFormat.of({METADATA_KEY: text})
    except ValueError as error:
        raise ValueError(f"{error}.") from error  # whose file it is, the loader adds
    assert made is not None and JointFormat.of(made.metadata()) == made


def shapes_of_a_segmenter(text: str) -> None:
    """Names and shapes of the tensors of a Segment Anything checkpoint: sizes of a network, or none."""
    try:
        shapes = json.loads(text)
        state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    except (ValueError, TypeError, AttributeError, RuntimeError, RecursionError):  # no file has such shapes
        return
    made = segmenter.sizes(state)
    assert made is None or (made.heads >= 0 and made.depth > 0)


def name_of_a_file(text: str) -> None:
    """Names of files: what is taken stays in its folder."""
    for form in FORMATS:
        form.STORE.check_prefix(text)
        root = Path(folder_paths.get_output_directory()) / form.STORE.folder
        assert (root / text).resolve().is_relative_to(root.resolve())


@dataclass
class SavedFile:
    """A saved file whose metadata are replaced: it is read as a whole one, and saved and read again as the same."""

    form: ModuleType
    whole: list[bytes] = field(default_factory=list)

    def bytes(self) -> bytes:
        if not self.whole:
            path = self.form.save(given(self.form), "whole")
            self.whole.append(path.read_bytes())
        return self.whole[0]

    def seeds(self) -> tuple[str, ...]:
        return (json.dumps(parts(self.bytes())[0]["__metadata__"]),)

    def check(self, text: str) -> None:
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError):
            return  # the library's own reader refuses it
        if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
            return
        header, body = parts(self.bytes())
        path = Path(folder_paths.get_output_directory()) / self.form.STORE.folder / "fuzzed.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(joined({**header, "__metadata__": facts}, body))
        made = self.form.load(path.name)
        again = self.form.save(made, "again")
        try:
            assert str(self.form.load(again.name)) == str(made)
        finally:
            again.unlink()


@dataclass(frozen=True)
class Parser:
    """A parser and texts that it takes. It refuses others by a ValueError of one sentence."""

    parse: Callable[[str], None]
    seeds: Callable[[], tuple[str, ...]]

    def check(self, text: str) -> bool:
        """Parses a text; False if it is refused. Fails on all but a sentence."""
        try:
            self.parse(text)
        except ValueError as error:
            assert is_sentence(str(error)), ascii(error)[:LONGEST]
            return False
        return True


def texts(*given: str) -> Callable[[], tuple[str, ...]]:
    return lambda: given


_STATED = tuple(json.dumps({"channel_order": order, "one_is_missing": False}) for order in ORDERS)
_SEGMENTER = {
    "image_encoder.pos_embed": [1, 4, 4, 32],
    "image_encoder.patch_embed.proj.weight": [32, 3, 16, 16],
    "image_encoder.blocks.0.attn.rel_pos_h": [27, 16],
    "image_encoder.blocks.1.attn.rel_pos_h": [7, 16],
}
PARSERS = {
    "blocks": Parser(
        block_text, texts("all", "output3-8, input4;middle0", "double3-10 single0-37", "vital content", "paper demo")
    ),
    "subject": Parser(
        subject_text,
        texts("a photo of {a dog} on the beach\nsks dog", "({the cat}:1.2), snow\nembedding:mine", "{my dog}", "{x}"),
    ),
    "word": Parser(word, texts("a photo of a red (dog:1.2)\nred dog", "a mug, on a table\nmug")),
    "boxes": Parser(box_lines, texts("0.1 0.2 0.5 0.9", "0,0,1,1\n.5 .5 1e0 1.0")),
    "points": Parser(points, texts("12,40; 30,50", "12 40\n1e2,-3.5")),
    "joint": Parser(joint_format, texts(*_STATED)),
    "segmenter": Parser(shapes_of_a_segmenter, texts(json.dumps(_SEGMENTER))),
    "names": Parser(name_of_a_file, texts("likeness", "a/b/../c", "%date:yyyy%/x", "x.y")),
    **{
        form.STORE.what.replace(" ", "-"): Parser(saved.check, saved.seeds)
        for form in FORMATS
        for saved in (SavedFile(form),)
    },
}
