"""Plan of a data set: its objects, its stages, and every set as a row with an id, in shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from ...demo.launcher.files import Problem, read_json, write_json

FORMAT = 1
PER_SHARD = 1000
TINYLAND_MODEL = "tinyland-model"
"""Maker of the stages that the demo's model draws."""
_OPEN = ("sets",)
"""Facts that may change while shards exist: more sets are more shards."""


@dataclass(frozen=True)
class Row:
    """Set to be made. source: file of its collage, or folder of its instances; empty where the collage is drawn."""

    number: int
    thing: str
    turn: int
    source: str = ""

    @property
    def id(self) -> str:
        return f"{self.number:07d}"


@dataclass(frozen=True)
class Plan:
    """Plan of a folder, as plan.json states it."""

    folder: Path
    facts: dict[str, Any]

    @property
    def sets(self) -> int:
        return self.facts["sets"]

    @property
    def size(self) -> int:
        return self.facts["size"]

    @property
    def set_sizes(self) -> list[int]:
        return self.facts["set_sizes"]

    def stage(self, name: str) -> dict[str, Any]:
        return self.facts["stages"][name]

    @property
    def shards(self) -> int:
        return -(-self.sets // self.facts["per_shard"])

    def shard(self, number: int) -> Path:
        """File of a shard."""
        return self.folder / "shards" / f"s3-{number:06d}.tar"

    def work(self, number: int) -> Path:
        """Folder of a shard that is being made."""
        return self.folder / "work" / f"{number:06d}"

    @cached_property
    def _things(self) -> list[str]:
        """Objects in a random order, which a longer list of sets repeats."""
        things = list(self.facts["objects"])
        Random(f"{self.facts['seed']}/objects").shuffle(things)
        return things

    def rows(self, shard: int) -> list[Row]:
        """Sets of a shard."""
        start = shard * self.facts["per_shard"]
        return [self.row(number) for number in range(start, min(self.sets, start + self.facts["per_shard"]))]

    def row(self, number: int) -> Row:
        """Set of this number."""
        if sources := self.facts.get("sources"):
            thing, source = sources[number]
            return Row(number, thing, 0, source)
        turn, place = divmod(number, len(self._things))
        return Row(number, self._things[place], turn)

    def all_rows(self) -> Iterator[Row]:
        return (self.row(number) for number in range(self.sets))

    def rng(self, row: Row, stage: str) -> Random:
        """Generator of one stage of one set: neither the order of the sets nor their worker changes what it draws."""
        return Random(f"{self.facts['seed']}/{row.id}/{stage}")

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits of everything that makes a set."""
        facts = {name: value for name, value in self.facts.items() if name not in _OPEN}
        return digest(facts)

    def write(self) -> None:
        """Writes plan.json. Raises Problem where finished shards belong to another plan."""
        path = self.folder / "plan.json"
        if path.is_file():
            before = Plan(self.folder, read_json(path))
            if before.facts.get("format") == FORMAT and before.key != self.key and before.finished():
                raise Problem(
                    f"The folder {self.folder} has {len(before.finished())} finished shards of another plan: give "
                    "--out another folder, or remove its shards."
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, self.facts)

    def finished(self) -> list[int]:
        """Numbers of the shards that are done."""
        return [number for number in range(self.shards) if self.shard(number).is_file()]


def digest(facts: Any) -> str:
    """Sixteen hexadecimal digits that change with the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read(folder: Path) -> Plan:
    """Plan of a folder. Raises Problem for a folder without one, or with one of another version."""
    facts = read_json(folder / "plan.json")
    if not facts:
        raise Problem(f"There is no plan in {folder}: make one with `run.py s3 plan --out {folder}`.")
    if facts.get("format") != FORMAT:
        raise Problem(
            f"The plan in {folder} has the format {facts.get('format')}, expected {FORMAT}: plan again with this "
            "version."
        )
    return Plan(folder, facts)


def objects(path: Path) -> list[str]:
    """Names of objects in a text file, one on each line; "#" begins a comment. Raises Problem."""
    if not path.is_file():
        raise Problem(f"There is no list of objects {path}: write one name on each line, and name it with --objects.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise Problem(f"The list of objects {path} is no text in UTF-8: save it as one.") from error
    names = dict.fromkeys(" ".join(line.partition("#")[0].split()) for line in lines)
    names.pop("", None)
    if not names:
        raise Problem(f"The list of objects {path} has no names: write one on each line.")
    if long := [name for name in names if len(name) > 60]:
        raise Problem(f"The list of objects {path} has '{long[0][:60]}...', expected short names: correct the line.")
    return list(names)
