"""Cut-outs of a picture's instances as tensors, for the node Cut Out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from . import instances
from .masks import FILLS
from .preprocessing import bytes_of

NODE = "Cut Out"
TRANSPARENT = "transparent"
GROUNDS = (TRANSPARENT, *FILLS)
EACH_MASK, EACH_PART = "each mask", "each connected part"
PARTS = (EACH_MASK, EACH_PART)
DROP, KEEP = "drop", "keep"
BORDER = (DROP, KEEP)


@dataclass(frozen=True)
class CutOuts:
    """Cut-outs, in the order of their masks.

    images: [1, height, width, 4 or 3] each, of its own size. masks: [1, height, width] each. text: a line for every
    instance, with the reason of those that were dropped. dropped: their number.
    """

    images: list[torch.Tensor]
    masks: list[torch.Tensor]
    text: str
    dropped: int


def cut_out(
    images: torch.Tensor, masks: torch.Tensor, *, parts: str, least: float, most: float, border: str, fill: str
) -> CutOuts:
    """Cuts out every instance.

    images: [n, height, width, 3]. masks: of one picture any number, of several one each; [m, height, width]. parts: of
    PARTS. least, most: shares of the picture's area. border: of BORDER, for instances at the picture's border. fill: of
    GROUNDS. Raises ValueError for masks of another number or size.
    """
    masks = masks[None] if masks.ndim == 2 else masks
    height, width = images.shape[1:3]
    if tuple(masks.shape[1:]) != (height, width):
        raise ValueError(
            f"{NODE}: expected masks of the picture's size, {width} x {height}, got {masks.shape[2]} x "
            f"{masks.shape[1]}; make them of the same picture."
        )
    if len(images) not in (1, len(masks)):
        raise ValueError(
            f"{NODE}: expected one picture, or a mask for each of {len(images)}, got {len(masks)} masks; connect masks "
            "of these pictures."
        )
    check_shares(least, most)
    pictures = bytes_of(images[..., :3])
    values = masks.float().clamp(0, 1).cpu().numpy()
    groups = [values] if len(images) == 1 else [values[i : i + 1] for i in range(len(images))]
    cuts, lines = [], []
    for picture, group in zip(pictures, groups, strict=True):
        for one in instances.find(group, parts == EACH_PART, least, most, border == DROP):
            lines.append(f"{len(lines) + 1}: {one.dropped or _size(one.box)}")
            if not one.dropped:
                cuts.append(one.cut(picture))
    kept = [torch.from_numpy(cut.astype(np.float32) / 255)[None] for cut in cuts]
    return CutOuts(
        [_on(cut, fill) for cut in kept],
        [cut[..., 3] for cut in kept],
        "\n".join(lines) or "no part in the masks",
        len(lines) - len(kept),
    )


def check_shares(minimum_area: float, maximum_area: float) -> None:
    """Raises ValueError where no instance can be large and small enough."""
    if minimum_area >= maximum_area:
        raise ValueError(
            f"{NODE}: expected minimum_area below maximum_area, got {minimum_area:g} and {maximum_area:g}; change one."
        )


def _size(box: tuple[int, int, int, int]) -> str:
    left, top, right, bottom = box
    return f"{right - left} x {bottom - top} at {left}, {top}"


def _on(cut: torch.Tensor, fill: str) -> torch.Tensor:
    if fill == TRANSPARENT:
        return cut
    alpha = cut[..., 3:]
    return cut[..., :3] * alpha + (1 - alpha) * (FILLS[fill] / 255)
