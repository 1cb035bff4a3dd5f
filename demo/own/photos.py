"""The user's photographs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..launcher.files import Problem

MOST = 8
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
_SMALLEST = 64


def photos_in(folder: Path) -> list[Path]:
    """Photographs of a folder in the order of their names, the first 8. Raises Problem for none, and for a bad one."""
    if not folder.is_dir():
        raise Problem(f"expected a folder of photographs, got {folder}, which is none: correct --photos.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise Problem(f"expected photographs (png, jpg, webp) in {folder}, got none: give --photos another folder.")
    for path in found[:MOST]:
        _check(path)
    return found[:MOST]


def _check(path: Path) -> None:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise Problem(f"expected a picture, got {path.name}, which cannot be read ({reason}): take it away.") from error
    if min(width, height) < _SMALLEST:
        raise Problem(
            f"expected pictures of {_SMALLEST} pixels or more, got {width}x{height} in {path.name}: take it away."
        )
