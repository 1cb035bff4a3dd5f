"""Sources of sets: shards of S3, folders of sets, videos and views, and single pictures.

JeDi (arXiv 2407.06187, section 4) mixes S3, frames of videos, renders of objects and single pictures; each step takes
one of them, all with equal probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...demo.launcher.files import Problem, text_of
from ...patching.evaluation.sets import member
from .sets import find_sets, opened, pictures_in, stamps
from .shards import read_shard

MOST_FRAMES = 16
"""Pictures of a video or an object that are used, evenly spaced."""


class JointSet(Protocol):
    """Set that a joint model is trained on.

    name: of its encoded file. place: of its files. identity: changes with them.
    """

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> object: ...
    @property
    def identity(self) -> tuple[object, ...]: ...
    @property
    def members(self) -> int: ...
    @property
    def captions(self) -> tuple[str, ...]: ...
    def pictures(self, size: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Frames:
    """Pictures of one folder with one caption for all: frames of a video, or views of an object."""

    files: tuple[Path, ...]
    caption: str

    @property
    def name(self) -> str:
        return self.files[0].parent.name

    @property
    def place(self) -> object:
        return self.files[0].parent.resolve()

    @property
    def identity(self) -> tuple[object, ...]:
        return (*stamps(*self.files), self.caption)

    @property
    def members(self) -> int:
        return len(self.files)

    @property
    def captions(self) -> tuple[str, ...]:
        return (self.caption,) * self.members

    def pictures(self, size: int) -> np.ndarray:
        """Middle squares of the pictures, [members, size, size, 3] uint8. Raises Problem."""
        return np.stack([member(opened(path), size) for path in self.files])


def find(folder: Path) -> list[JointSet]:
    """Sets of one source. Raises Problem if there is none, or if one is not in its format.

    folder: has shards, itself or in its sub-folder `shards`. Or it has sets NAME.png with NAME.txt, of which a square
    one is a single picture. Or it has sub-folders of pictures with NAME.txt beside each.
    """
    if not folder.is_dir():
        return [*find_sets(folder)]
    shards = [*sorted(folder.glob("*.tar")), *sorted(folder.glob("shards/*.tar"))]
    found: list[JointSet] = [one for path in shards for one in read_shard(path)]
    if shards and not found:
        raise Problem(f"expected sets in the {len(shards)} shards of {folder}, got empty ones: make them again.")
    if pictures_in(folder):
        found += find_sets(folder)
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "shards"):
        if files := pictures_in(path):
            found.append(_frames(path, files))
    return found or [*find_sets(folder)]


def _frames(folder: Path, files: Sequence[Path]) -> Frames:
    text = folder.with_name(f"{folder.name}.txt")
    if not text.is_file():
        raise Problem(f"expected the caption of {folder.name} in {text}, got no such file: add it.")
    if len(files) < 2:
        raise Problem(f"expected several pictures in {folder}, got 1: put it into a folder of single pictures.")
    step = (len(files) - 1) / (min(len(files), MOST_FRAMES) - 1)
    chosen = [files[round(i * step)] for i in range(min(len(files), MOST_FRAMES))]
    return Frames(tuple(chosen), " ".join(text_of(text).split()))
