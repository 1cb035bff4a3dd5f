"""The result of a layer probe for people: a table in Markdown, and a picture of it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..host.blocks import Block
from .layer_probe import Probed

_POSITION, _CONTENT = (30, 90, 200), (200, 60, 40)
_NAME, _BAR, _NUMBER, _ROW, _TOP = 76, 320, 110, 16, 26


def side_of(probed: Probed, block: Block) -> str:
    """The side that a block leans to most, empty for neither."""
    return "content" if block in probed.content else "position" if block in probed.position else ""


def table(probed: Probed) -> str:
    """A Markdown table with a row per block, in call order."""
    values = zip(probed.blocks, probed.of_position, probed.of_content, probed.lean, strict=True)
    rows = [
        f"| {block.name} | {100 * position:.3g} | {100 * content:.3g} | {lean:+.2f} | {side_of(probed, block)} |"
        for block, position, content, lean in values
    ]
    head = "| block | position, % | content, % | leaning | side |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def plot(probed: Probed) -> torch.Tensor:
    """Both changes of every block as bars: [1, height, width, 3] in 0..1. Blocks of neither side are pale."""
    width, height = _NAME + _BAR + _NUMBER, _TOP + _ROW * len(probed.blocks) + 8
    image, font = Image.new("RGB", (width, height), "white"), ImageFont.load_default()
    draw = ImageDraw.Draw(image)
    draw.text((_NAME, 6), "position", fill=_POSITION, font=font)
    draw.text((_NAME + 70, 6), "content", fill=_CONTENT, font=font)
    draw.text((_NAME + 140, 6), "change in % of the picture's spread", fill="black", font=font)
    largest = max(*probed.of_position, *probed.of_content)
    for i, block in enumerate(probed.blocks):
        top, side = _TOP + _ROW * i, side_of(probed, block)
        draw.text((6, top + 1), block.name, fill="black", font=font)
        numbers = []
        for row, (name, changes, color) in enumerate(
            (("position", probed.of_position, _POSITION), ("content", probed.of_content, _CONTENT))
        ):
            tint = color if side == name else tuple((c + 510) // 3 for c in color)
            end = _NAME + round(_BAR * changes[i] / largest)
            draw.rectangle([_NAME, top + 1 + 7 * row, end, top + 6 + 7 * row], fill=tint)
            numbers.append(f"{100 * changes[i]:.3g}")
        draw.text((_NAME + _BAR + 8, top + 1), "  ".join(numbers), fill="black", font=font)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None]
