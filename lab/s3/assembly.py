"""Finished set of S3, with everything that was dropped."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .plan import Row


@dataclass(frozen=True)
class Made:
    """Set, or the reason why there is none. instances: facts of the cut-outs; cuts: their pictures.

    failed: sentence of the stage that failed, or empty.
    """

    row: Row
    prompt: str
    members: tuple[np.ndarray, ...] = ()
    captions: tuple[str, ...] = ()
    details: tuple[dict[str, Any], ...] = ()
    dropped: str = ""
    failed: str = ""
    hash: str = ""
    instances: tuple[dict[str, Any], ...] = ()
    cuts: tuple[Image.Image, ...] = field(default=(), repr=False)
    collage: Image.Image | None = field(default=None, repr=False)

    def facts(self) -> dict[str, Any]:
        """Facts for the shard."""
        return {
            "id": self.row.id,
            "object": self.row.thing,
            "prompt": self.prompt,
            "instances": list(self.instances),
            "members": list(self.details),
            "hash": self.hash,
            **({"dropped": self.dropped} if self.dropped else {}),
        }


def difference_hash(picture: Image.Image) -> str:
    """64 bits, as hexadecimal digits, that stay the same for a picture of another size or compression."""
    small = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def thumbnail(picture: Image.Image, side: int) -> bytes:
    """Small WebP of a picture, for the sheet."""
    small = picture.copy()
    small.thumbnail((side, side))
    content = io.BytesIO()
    small.save(content, format="WEBP", quality=80)
    return content.getvalue()
