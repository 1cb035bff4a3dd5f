"""Shards: tar files of sets under the names of WebDataset, KEY.png or KEY.webp, KEY.txt and KEY.json.

The same sets give the same bytes. A shard is done when its file has its name.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...demo.launcher.files import Problem, replacing
from ...patching.evaluation.sets import divided, joined, stacked
from .sets import check_square, scaled

FORMATS = ("png", "webp")
_PICTURES = tuple(f".{name}" for name in FORMATS)


@dataclass(frozen=True)
class Entry:
    """Set to be written: its key, its members [size, size, 3] uint8, their captions, and facts for the JSON."""

    key: str
    members: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    facts: dict[str, Any]


def write_shard(path: Path, entries: Iterable[Entry], kind: str = "png") -> int:
    """Writes a shard that appears whole or not at all; returns the number of its sets. kind: one of FORMATS."""
    count = 0
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as file:
        for entry in entries:
            _add(file, f"{entry.key}.{kind}", _encoded(stacked(entry.members), kind))
            _add(file, f"{entry.key}.txt", joined(entry.captions).encode())
            _add(file, f"{entry.key}.json", json.dumps(entry.facts, ensure_ascii=False, sort_keys=True).encode())
            count += 1
    return count


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    content, options = io.BytesIO(), {"quality": 95, "method": 4} if kind == "webp" else {}
    Image.fromarray(pixels).save(content, format=kind.upper(), **options)
    return content.getvalue()


def _add(file: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # without a time and an owner, so that the bytes depend on the sets alone
    member.size = len(content)
    file.addfile(member, io.BytesIO(content))


@dataclass(frozen=True)
class ShardSet:
    """Set in a shard. span: place and length of its picture in the file. stamp: size and time of the file."""

    path: Path
    key: str
    span: tuple[int, int]
    captions: tuple[str, ...]
    stamp: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.path.stem}/{self.key}"

    @property
    def place(self) -> object:
        """Place of the set, which stays when it changes."""
        return f"{self.path.resolve()}/{self.key}"

    @property
    def identity(self) -> tuple[object, ...]:
        """Changes with the shard's file, and differs between the sets of one."""
        return str(self.path.resolve()), *self.stamp, self.key

    @property
    def members(self) -> int:
        return len(self.captions)

    def pictures(self, size: int) -> np.ndarray:
        """Pictures of the members, [members, size, size, 3] uint8. Raises Problem."""
        with self.path.open("rb") as file:
            file.seek(self.span[0])
            content = file.read(self.span[1])
        try:
            with Image.open(io.BytesIO(content)) as picture:
                return scaled(picture, size, self.members)
        except OSError as error:
            raise _broken(self.path, f"the picture of {self.key} cannot be read") from error


def read_shard(path: Path) -> list[ShardSet]:
    """Sets of a shard, by its texts and the heads of its pictures. Raises Problem for a broken file."""
    stat = path.stat()
    found, parts = [], _parts(path)
    for key, part in parts.items():
        if "picture" not in part or "txt" not in part:
            raise _broken(path, f"{key} has no {'picture' if 'picture' not in part else 'text'}")
        captions = divided(part["txt"].decode("utf-8", "replace"))
        check_square(part["size"], len(captions), f"{path}, {key}")
        found.append(ShardSet(path, key, part["picture"], captions, (stat.st_size, stat.st_mtime_ns)))
    return found


def facts(path: Path) -> dict[str, dict[str, Any]]:
    """Facts of a shard's sets by key. Raises Problem."""
    try:
        return {key: json.loads(part.get("json", b"{}")) for key, part in _parts(path).items()}
    except ValueError as error:
        raise _broken(path, "its facts are no JSON") from error


def _parts(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as file:
            for member in file:
                key, dot, ending = member.name.partition(".")
                content = file.extractfile(member)
                if content is None or not dot:
                    continue
                part = found.setdefault(key, {})
                if f".{ending}" in _PICTURES:
                    with Image.open(content) as picture:
                        part["size"] = picture.size
                    part["picture"] = (member.offset_data, member.size)
                else:
                    part[ending] = content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _broken(path, str(error) or type(error).__name__) from error
    return found


def _broken(path: Path, why: str) -> Problem:
    return Problem(f"The shard {path} is broken ({why}): remove it, and make it again.")
