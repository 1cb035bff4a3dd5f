"""Writes the reference pictures of the bundled subjects, the four that their LoRAs are tuned on, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..launcher.files import replacing
from .scene import render
from .subjects import SUBJECTS, PersonalSubject

FOLDER = Path(__file__).resolve().parents[1] / "weights" / "subjects"


def strip(subject: PersonalSubject) -> np.ndarray:
    """[size, 4 * size, 3] uint8."""
    return np.concatenate([render(scene).image for scene in subject.training_scenes()], axis=1)


def write(folder: Path = FOLDER) -> None:
    """Writes one lossless picture per subject, NAME.png.

    Correct pictures stay untouched, because another process may be reading them.
    """
    for name, subject in SUBJECTS.items():
        path, pixels = folder / f"{name}.png", strip(subject)
        if _shows(path, pixels):
            continue
        with replacing(path) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG", optimize=True)


def _shows(path: Path, pixels: np.ndarray) -> bool:
    """True if the file is a whole picture of exactly these pixels, [height, width, 3] uint8."""
    try:
        with Image.open(path) as picture:
            return picture.mode == "RGB" and np.array_equal(np.asarray(picture), pixels)
    except (OSError, SyntaxError):  # missing, truncated or not a picture
        return False


if __name__ == "__main__":
    write()
