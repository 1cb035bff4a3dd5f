"""Folders of sets in the format of JeDi (arXiv 2407.06187, section 6): one picture and one text file per set.

The members of a set are square and stacked vertically, so their number is height / width. NAME.txt beside NAME.png
holds their captions, separated by <|split|>.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ...demo.launcher.files import Problem, replacing
from ...patching.evaluation.sets import SEPARATOR, divided, joined, stacked

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class PictureSet:
    """Set of a folder, as JeDi (arXiv 2407.06187, section 6) keeps it.

    path: its picture. captions: one per member, from top to bottom.
    """

    path: Path
    captions: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def place(self) -> object:
        """Place of the set, which stays when it changes."""
        return self.path.resolve()

    @property
    def identity(self) -> tuple[object, ...]:
        """Changes with the set's files; they may be too many to hash."""
        return stamps(self.path, self.path.with_suffix(".txt"))

    @property
    def members(self) -> int:
        return len(self.captions)

    def pictures(self, size: int) -> np.ndarray:
        """Pictures of the members, [members, size, size, 3] uint8."""
        return scaled(opened(self.path), size, self.members)


def scaled(picture: Image.Image, size: int, members: int) -> np.ndarray:
    """Members of a set's picture, [members, size, size, 3] uint8."""
    whole = picture.convert("RGB").resize((size, size * members), Image.Resampling.LANCZOS)
    return np.array(whole).reshape(members, size, size, 3)


def opened(path: Path) -> Image.Image:
    """Picture of a file, turned as its EXIF data says. Raises Problem."""
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> Problem:
    return Problem(f"expected a picture in {path}, got an unreadable file: replace or remove it.")


def stamps(*files: Path) -> tuple[object, ...]:
    """Names, sizes and times of files."""
    return tuple((str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files)


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of a folder, by name; none if the folder does not exist."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES) if folder.is_dir() else []


_TURNED = (5, 6, 7, 8)
"""EXIF orientations that are rotated by 90 degrees."""


def find_sets(folder: Path) -> list[PictureSet]:
    """Finds the sets of a folder, by name. Raises Problem if there is none, or if one is not in the format."""
    found = [_read(path) for path in pictures_in(folder)]
    if not found:
        raise Problem(
            f"expected sets ({', '.join(PICTURES)}, each with a .txt) in {folder}, got none: give --sets a folder "
            "that holds some."
        )
    return found


def _read(path: Path) -> PictureSet:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if picture.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED:
                width, height = height, width
    except (OSError, SyntaxError) as error:
        raise _unreadable(path) from error
    check_square((width, height), None, str(path))
    texts = path.with_suffix(".txt")
    if not texts.is_file():
        raise Problem(f"expected captions in {texts}, got no such file: add it, or remove {path.name}.")
    captions = divided(texts.read_text(encoding="utf-8"))
    if len(captions) != height // width:
        raise Problem(
            f"expected {height // width} captions separated by {SEPARATOR} in {texts}, got {len(captions)}: "
            f"write one for each square member of {path.name}."
        )
    return PictureSet(path, captions)


def check_square(size: tuple[int, int], members: int | None, where: str) -> None:
    """Raises Problem for a picture that is no stack of squares, or of another number than `members`."""
    width, height = size
    if height % width:
        raise Problem(
            f"expected a height that is a multiple of the width, for square members stacked vertically, got {width} "
            f"x {height} in {where}: crop or remove it."
        )
    if members is not None and members != height // width:
        raise Problem(
            f"expected {height // width} captions separated by {SEPARATOR} in {where}, got {members}: make the set "
            "again."
        )


def write_set(path: Path, pictures: Sequence[np.ndarray], captions: Sequence[str]) -> None:
    """Writes a set that `find_sets` reads. pictures: [size, size, 3] uint8 each; path: ends in .png."""
    with replacing(path.with_suffix(".txt")) as temporary:
        temporary.write_text(joined(captions), encoding="utf-8")
    with replacing(path) as temporary:  # last: a set exists once its picture does
        Image.fromarray(stacked(pictures)).save(temporary, format="PNG")
