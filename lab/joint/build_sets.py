"""Builds sets from a user's own pictures: the part of S3 (JeDi, arXiv 2407.06187, Algorithm 1) that needs no other
model.

Subjects are cut out and pasted at random places and scales, as in its step 6. The steps below need other models and are
left out; in brackets, the replacement here:

    1-3  prompts by GPT and collages by SDXL (the user's pictures)
    4    boxes by Grounding DINO and masks by SAM (the user's masks)
    5    the CLIP threshold below which a pair of instances is dropped, as too unlike (none)
    6    inpainting around the subject (the user's backgrounds)
    7    edits by InstructPix2Pix (none)
    8    captions by BLIP-2 (the template and the backgrounds' texts)

The folders hold:

    PICTURES/blue_mug/1.jpg, 1.mask.png   mask: white on the subject; or 1.png alone, with an alpha channel
    BACKGROUNDS/kitchen.jpg, kitchen.txt  text: the place, such as "on a kitchen table"; may be missing

A caption is the template with the sub-folder's name for {name}, "_" as a space, followed by the background's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
from PIL import Image

from ...demo.launcher.files import Problem, text_of
from ...patching.evaluation.placement import pasted, placed
from .sets import opened, pictures_in, write_set

T = TypeVar("T")
_MASK = ".mask.png"
_LEAST_CROP = 0.6
"""Smallest crop of a background, as a part of its shorter side."""


@dataclass(frozen=True)
class Background:
    path: Path
    text: str

    def draw(self, size: int, rng: Random) -> Image.Image:
        """Cuts a random square, [size, size]."""
        picture = opened(self.path).convert("RGB")
        side = round(min(picture.size) * rng.uniform(_LEAST_CROP, 1))
        left, top = (rng.randint(0, length - side) for length in picture.size)
        return picture.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))


@dataclass(frozen=True)
class Collection:
    """Pictures of one subject, with its name."""

    name: str
    pictures: tuple[Path, ...]


def build(
    pictures: Path,
    backgrounds: Path,
    out: Path,
    count: int,
    size: int,
    set_sizes: tuple[int, ...],
    seed: int,
    template: str,
) -> None:
    """Writes `count` sets of one subject each to the folder `out` (JeDi, arXiv 2407.06187, Algorithm 1, line 6).

    size: side of a member in pixels. `sets.find_sets` reads the folder. The same seed gives the same sets. Raises
    Problem if a picture, a mask or a background is missing or cannot be read.
    """
    subjects, places = find_subjects(pictures), find_backgrounds(backgrounds)
    for number in range(count):
        rng = Random(f"sets-{seed}-{number}")
        subject, members = rng.choice(subjects), rng.choice(set_sizes)
        shown, behind = several(subject.pictures, members, rng), several(places, members, rng)
        composed = [compose(cut_out(p), b.draw(size, rng), rng) for p, b in zip(shown, behind, strict=True)]
        name = subject.name.replace("_", " ")
        captions = [" ".join([template.replace("{name}", name), *b.text.split()]) for b in behind]
        write_set(out / f"{subject.name}-{number:06d}.png", [np.asarray(c) for c in composed], captions)
    print(f"written: {count} sets to {out}", flush=True)


def find_subjects(folder: Path) -> list[Collection]:
    """Finds one collection per sub-folder with pictures. Raises Problem if there is none."""
    folders = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    named = [Collection(f.name, tuple(p for p in pictures_in(f) if not p.name.endswith(_MASK))) for f in folders]
    found = [collection for collection in named if collection.pictures]
    if not found:
        raise Problem(
            f"expected a sub-folder of pictures for each subject in {folder}, got none: give --pictures a folder that "
            "holds some."
        )
    return found


def find_backgrounds(folder: Path) -> list[Background]:
    """Finds the pictures of a folder and their texts. Raises Problem if there is none."""
    found = [Background(path, text_of(path.with_suffix(".txt"))) for path in pictures_in(folder)]
    if not found:
        raise Problem(f"expected pictures in {folder}, got none: give --backgrounds a folder that holds some.")
    return found


def cut_out(path: Path) -> Image.Image:
    """Cuts out the subject: RGBA, cropped to its bounding box.

    Raises Problem for a picture with neither mask nor alpha channel, and for an empty mask or one of another size.
    """
    picture, mask = opened(path), path.with_name(path.stem + _MASK)
    if mask.is_file():
        alpha = opened(mask).convert("L")
        if alpha.size != picture.size:
            raise Problem(
                f"expected a mask of {picture.size} in {mask}, the size of {path.name}, got {alpha.size}: scale it."
            )
    elif "A" in picture.getbands() or "transparency" in picture.info:
        alpha = picture.convert("RGBA").getchannel("A")
    else:
        raise Problem(f"expected a mask {mask.name} beside {path}, or an alpha channel in it, got neither: add one.")
    box = Image.fromarray(np.asarray(alpha) >= 128).getbbox()
    if box is None:
        raise Problem(f"expected a subject in the mask of {path}, got an empty one: paint the subject white.")
    cut = picture.convert("RGB")
    cut.putalpha(alpha)
    return cut.crop(box)


def compose(cut: Image.Image, background: Image.Image, rng: Random) -> Image.Image:
    """Pastes the subject at a random place, covering LEAST_AREA to MOST_AREA of the background, or less if it must
    fit."""
    return pasted(placed(cut, background.width, rng), background)


def several(choices: Sequence[T], count: int, rng: Random) -> list[T]:
    """Draws `count` different choices, repeating them only when there are too few."""
    chosen: list[T] = []
    while len(chosen) < count:
        chosen += rng.sample(choices, min(len(choices), count - len(chosen)))
    return chosen
