"""Strips: all pictures of several nodes in one PNG, one below the other, which states their numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

COUNTS = "counts"
"""Text of the PNG with the number of pictures of each node."""


def strip_of(nodes: Sequence[str]) -> str:
    """Output of a task that takes all pictures of these nodes."""
    return "".join(f"{node}," for node in nodes)


def is_strip(output: str) -> bool:
    return "," in output


def nodes_of(output: str) -> list[str]:
    """Nodes of a task's output."""
    return [node for node in output.split(",") if node]


def joined(pictures: Sequence[Sequence[bytes]]) -> bytes:
    """Strip of the equal pictures of each node."""
    pixels = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for shown in pictures for one in shown]
    facts, content = PngInfo(), io.BytesIO()
    facts.add_text(COUNTS, json.dumps([len(shown) for shown in pictures]))
    Image.fromarray(np.concatenate(pixels)).save(content, format="PNG", pnginfo=facts)
    return content.getvalue()


def parted(content: bytes) -> list[np.ndarray]:
    """Pictures [n, height, width, 3] uint8 of each node of a strip."""
    strip = Image.open(io.BytesIO(content))
    counts, pixels = json.loads(str(strip.info[COUNTS])), np.array(strip.convert("RGB"))
    pictures = pixels.reshape(sum(counts), -1, *pixels.shape[1:])
    return np.split(pictures, np.cumsum(counts)[:-1])
