"""Writes the reference pictures of the bundled subjects, the same four that their LoRAs are tuned on, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .subjects import SUBJECTS, PersonalSubject
from .world import render

FOLDER = Path(__file__).resolve().parent / "weights" / "subjects"


def strip(subject: PersonalSubject) -> np.ndarray:
    """[size, 4 * size, 3] uint8."""
    return np.concatenate([render(scene).image for scene in subject.training_scenes()], axis=1)


def write(folder: Path = FOLDER) -> None:
    """One lossless picture per subject, named after it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, subject in SUBJECTS.items():
        temporary = folder / f"{name}.png.tmp"
        Image.fromarray(strip(subject)).save(temporary, format="PNG", optimize=True)
        temporary.replace(folder / f"{name}.png")


if __name__ == "__main__":
    write()
