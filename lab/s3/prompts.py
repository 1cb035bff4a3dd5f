"""Prompts of the objects in prompts.jsonl: each answer of a language model is written once, and used by every set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, Protocol

from ...demo.launcher.files import Problem, try_lock
from ..farm.records import whole
from ..joint.build_sets import several
from . import words
from .plan import Plan, Row

ATTEMPTS = 3
FILE = "prompts.jsonl"


class Writer(Protocol):
    """Language model: an endpoint, or a workflow on a server."""

    def answer(self, text: str, seed: int, picture: bytes | None = None) -> str: ...


class Bank:
    """Texts by object and kind. A line that was cut by a stop of the machine is left out."""

    def __init__(self, path: Path):
        self.path = path
        self._texts: dict[tuple[str, str], list[str]] = {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else [""]
        self._cut = bool(lines[-1])
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                facts = json.loads(line)
                thing, kind, texts = facts["object"], facts["kind"], facts["texts"]
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):
                    break
                raise Problem(
                    f"The line {number} of {path} is no prompt of an object: correct or remove it."
                ) from error
            if kind not in words.KINDS or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
                raise Problem(
                    f'The line {number} of {path} needs "kind" object or scene, and "texts", a list of texts: correct '
                    "it."
                )
            self._texts.setdefault((thing, kind), []).extend(words.new(texts, self._texts.get((thing, kind), [])))

    def texts(self, thing: str, kind: str) -> list[str]:
        return self._texts.get((thing, kind), [])

    def add(self, thing: str, kind: str, texts: list[str]) -> None:
        """Adds texts, in the file first."""
        if self._cut:
            whole(self.path, "".join(_line(*key, known) for key, known in self._texts.items()).encode())
            self._cut = False
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(_line(thing, kind, texts))
        self._texts.setdefault((thing, kind), []).extend(texts)

    def of(self, plan: Plan, row: Row) -> str:
        """Text of the object of a set: each turn of an object takes the next of its texts."""
        texts = self._known(row.thing, words.OBJECT)
        order = Random(f"{plan.facts['seed']}/{row.thing}/prompts").sample(range(len(texts)), len(texts))
        return texts[order[row.turn % len(texts)]]

    def scenes(self, plan: Plan, row: Row, count: int) -> list[str]:
        """Different scenes of a set's members, as far as there are enough."""
        return several(self._known(row.thing, words.SCENE), count, plan.rng(row, "scenes"))

    def _known(self, thing: str, kind: str) -> list[str]:
        if not (texts := self.texts(thing, kind)):
            raise Problem(f"There are no prompts of kind {kind} for '{thing}' in {self.path}: add them, or make them.")
        return texts


def _line(thing: str, kind: str, texts: list[str]) -> str:
    return json.dumps({"object": thing, "kind": kind, "texts": texts}, ensure_ascii=False) + "\n"


def bank(plan: Plan) -> Bank:
    """Bank of a plan: its own, or the one of the file that --prompts names."""
    source = plan.stage("prompts")
    return Bank(Path(source["path"]) if source["by"] == "file" else plan.folder / FILE)


def fill(plan: Plan, things: Iterable[str], writer: Writer | None, say: Callable[[str], Any] = print) -> Bank:
    """Bank with prompts of all `things`; asks for those that are missing. Raises Problem, and keeps what it has.

    writer: None for a file, or for templates.
    """
    with (plan.folder / "prompts.lock").open("a+b") as lock:
        if not try_lock(lock):
            raise Problem(f"Another run asks for prompts in {plan.folder}: wait for it, or stop it.")
        found, count = bank(plan), plan.facts["prompts_per_object"]
        wanted = [(t, kind) for t in dict.fromkeys(things) for kind in words.KINDS if not found.texts(t, kind)]
        if wanted and plan.stage("prompts")["by"] == "file":
            thing, kind = wanted[0]
            raise Problem(
                f"The file {found.path} has no prompts of kind {kind} for '{thing}' ({len(wanted)} are missing): add "
                "them, or remove the object."
            )
        for number, (thing, kind) in enumerate(wanted, 1):
            texts = words.templates(kind, thing, count) if writer is None else _asked(writer, thing, kind, count)
            found.add(thing, kind, texts)
            if writer is not None:
                say(f"prompts {number}/{len(wanted)}: {thing}, {kind}, {len(texts)} texts")
    return found


def _asked(writer: Writer, thing: str, kind: str, count: int) -> list[str]:
    """Texts of a language model. Raises Problem where no answer has one that can be used."""
    found: list[str] = []
    answer = ""
    for attempt in range(ATTEMPTS):
        answer = writer.answer(words.question(kind, thing, count - len(found)), attempt)
        found += words.new(words.lines(answer, thing), found)
        if len(found) >= count:
            break
    if not found:
        start = " ".join(answer.split())[:80]
        raise Problem(
            f"The language model gave no prompt of '{thing}' in {ATTEMPTS} attempts, but '{start}': name another "
            "model, or give --prompts a file."
        )
    return found[:count]
