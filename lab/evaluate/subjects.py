"""Subjects of an evaluation: a folder of photos each, a class word, a token, and the prompts to draw them in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from ...demo.launcher.files import Problem
from .protocol import PRESETS, Protocol

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
SLOT = "{}"
"""Place of the subject's words in a prompt."""


@dataclass(frozen=True)
class Photo:
    """File of a photo, with the first 16 digits of its SHA-256."""

    file: str
    hash: str


@dataclass(frozen=True)
class Subject:
    """Subject with its words: `token` and `noun` make "sks dog"."""

    name: str
    noun: str
    token: str
    live: bool
    photos: tuple[Photo, ...]

    @property
    def words(self) -> str:
        """Words of the tuned model's prompt."""
        return f"{self.token} {self.noun}".strip()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(facts: dict[str, Any]) -> Subject:
        return Subject(**{**facts, "photos": tuple(Photo(**photo) for photo in facts["photos"])})


def opened(path: Path) -> Image.Image:
    """Whole picture in RGB, upright. Raises Problem for a file that is missing, truncated or no picture."""
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError as error:
        raise Problem(f"The picture {path} is missing: put it back, or plan again.") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise Problem(f"The picture {path} cannot be read ({error}): replace or remove it.") from error


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def read(data: Path, only: Sequence[str] = ()) -> list[Subject]:
    """Subjects of a data folder, by name; those in `only` if it has any. Raises Problem.

    A subject is a folder with photos and subject.json; DreamBench's subjects need no such file.
    """
    if not data.is_dir():
        raise Problem(f"The data folder {data} is not there: name one with a folder of photos for each subject.")
    folders = {path.name: path for path in sorted(data.iterdir()) if path.is_dir() and _photos(path)}
    if not folders:
        raise Problem(f"The data folder {data} has no photos: make a folder for each subject, with its photos in it.")
    if missing := [name for name in only if name not in folders]:
        raise Problem(f"There is no folder with photos of {', '.join(missing)} in {data}: use {', '.join(folders)}.")
    return [_subject(folders[name]) for name in (only or folders)]


def _photos(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS and path.is_file()]


def _subject(folder: Path) -> Subject:
    photos, paths = [], _photos(folder)
    if len({path.stem for path in paths}) < len(paths):
        raise Problem(f"The folder {folder} has photos that differ in their endings alone: give each its own name.")
    for path in paths:
        opened(path)
        photos.append(Photo(str(path.resolve()), hash_of(path.read_bytes())))
    known, told = dreambench(), folder / "subject.json"
    if told.is_file():
        try:
            facts = json.loads(told.read_text(encoding="utf-8"))
            noun, token, live = facts["class"], facts.get("token", "sks"), bool(facts.get("live", False))
        except (ValueError, KeyError, TypeError) as error:
            example = '{"class": "dog", "token": "sks", "live": true}'
            raise Problem(f"The file {told} is not of the form {example}: mend it.") from error
    elif folder.name in known["classes"]:
        noun, token, live = known["classes"][folder.name], known["token"], folder.name in known["live"]
    else:
        raise Problem(
            f"The subject {folder.name} has no class: write "
            f'{{"class": "dog", "token": "sks", "live": true}} into {told}.'
        )
    return Subject(folder.name, noun, token, live, tuple(photos))


def dreambench() -> dict[str, Any]:
    """Classes and prompts of DreamBench."""
    return json.loads((PRESETS / "dreambench.json").read_text(encoding="utf-8"))


def prompts(protocol: Protocol, data: Path) -> dict[str, list[str]]:
    """Prompts with {} for the subject, of kinds "object" and "live". Raises Problem."""
    wanted = protocol.facts["prompts"]
    if wanted["list"] == "dreambench":
        return dreambench()["prompts"]
    return {kind: _lines(data / wanted[kind], wanted.get("count"), protocol.name) for kind in ("object", "live")}


def _lines(path: Path, count: int | None, protocol: str) -> list[str]:
    if not path.is_file():
        raise Problem(
            f"The protocol {protocol} reads its prompts from {path}, which is missing: write a prompt on each line, "
            f"with {SLOT} for the subject."
        )
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        if line.count(SLOT) != 1:
            raise Problem(
                f"Prompt {number} of {path}, '{line}', has {line.count(SLOT)} places for the subject's class word: "
                f"write {SLOT} once, where the word goes."
            )
    if not lines or count not in (None, len(lines)):
        raise Problem(
            f"The protocol {protocol} has {count or 'at least 1'} prompts, and {path} has {len(lines)}: use its list, "
            "or the protocol own."
        )
    return lines


def text(rule: str, prompt: str, subject: Subject) -> str | None:
    """Text that a picture is compared with, by a text rule of the protocols; None if the rule leaves no text.

    class: without the token. raw: with it. braces: with {} left in. background: what follows the subject.
    """
    if rule == "braces":
        return prompt
    if rule == "background":
        return prompt.split(SLOT, 1)[1].strip() or None
    return prompt.replace(SLOT, subject.words if rule == "raw" else subject.noun)
