"""Photographs of one subject as people have them: odd sizes, turned by a tag, transparent, and of 12 megapixels."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..demo.launcher.files import replacing
from ..demo.world.scene import render
from ..demo.world.subjects import SUBJECTS

NAMES = ("subject_1.png", "subject_2.png", "subject_3.png")
_ORIENTATION, _TURNED_RIGHT = 0x0112, 6
_SIZES = ((293, 217), (500, 803), (4000, 3000))


def write(folder: Path, longest: int | None = None) -> list[Path]:
    """Writes three photographs, scaled down to a longest side if one is given."""
    subject = next(iter(SUBJECTS.values()))
    paths = [folder / name for name in NAMES]
    for index, (path, size, scene) in enumerate(zip(paths, _SIZES, subject.training_scenes()[:3], strict=True)):
        if longest:
            size = round(size[0] * longest / max(size)), round(size[1] * longest / max(size))
        drawn, exif = render(scene, 512), Image.Exif()
        picture = Image.fromarray(drawn.image).resize(size, Image.Resampling.BICUBIC)
        if index == 0:
            exif[_ORIENTATION] = _TURNED_RIGHT
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        if index == 1:
            mask = Image.fromarray((drawn.mask > 0).astype("uint8") * 255).resize(size, Image.Resampling.BICUBIC)
            picture.putalpha(mask)
        with replacing(path) as temporary:
            picture.save(temporary, format="PNG", exif=exif)
    return paths
