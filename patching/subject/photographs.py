"""Photographs and masks as a node's inputs give them: of any size, gray, transparent, single or in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from ..features.fitting import alike
from ..host.checks import check_count
from ..host.notices import Notices
from .subject import MOST, NODE, Photos

IMAGE, MASK = "image", "mask"
"""Prefixes of the numbered inputs."""
_SMALLEST = 16


def photographs(
    images: Mapping[str, torch.Tensor | None], masks: Mapping[str, torch.Tensor | None], told: Notices
) -> tuple[Photos, ...]:
    """The photographs of inputs named "image0", "image1" and so on, with the masks of the same numbers.

    images: [n, height, width, channels] of 1, 3 or 4 channels, whose fourth is the opacity. masks: [height, width] or
    [1 or n, height, width] of any size. Empty masks, such as those of LoadImage for opaque pictures, count as none.
    Raises ValueError for no photograph or more than MOST, and for masks of another number or shape.
    """
    given = {name: image for name, image in images.items() if image is not None}
    count = sum(map(len, given.values()))
    if not 1 <= count <= MOST:
        raise ValueError(
            f"{NODE}: expected 1 to {MOST} photographs of one subject, got {count}; "
            f"{'connect one to image0' if not count else 'connect fewer'}."
        )
    check_numbers(list(given), [name for name, mask in masks.items() if mask is not None])
    return tuple(_photos(name, image, masks.get(_mask_of(name)), told) for name, image in given.items())


def check_numbers(images: Sequence[str], masks: Sequence[str]) -> None:
    """Raises ValueError for the name of a mask without a photograph of its number."""
    alone = sorted(set(masks) - set(map(_mask_of, images)))
    if alone:
        missing = IMAGE + alone[0].removeprefix(MASK)
        raise ValueError(
            f"{NODE}: expected a photograph for each mask, got {', '.join(alone)} alone; connect the photograph to "
            f"{missing}, or disconnect the mask."
        )


def _mask_of(image: str) -> str:
    return MASK + image.removeprefix(IMAGE)


def _photos(name: str, image: torch.Tensor, mask: torch.Tensor | None, told: Notices) -> Photos:
    channels = image.shape[-1]
    if image.ndim != 4 or channels not in (1, 3, 4):
        raise ValueError(
            f"{NODE}: expected gray, RGB or RGBA pictures, got {channels} channels in {name}; connect the output of "
            "LoadImage."
        )
    size = (image.shape[1], image.shape[2])
    if min(size) < _SMALLEST:
        raise ValueError(
            f"{NODE}: expected photographs of at least {_SMALLEST} x {_SMALLEST} pixels, got {size[1]} x {size[0]} in "
            f"{name}; connect a larger one."
        )
    count = len(image)
    if any(float(picture.amin()) == float(picture.amax()) for picture in image[..., :3]):
        told.tell(
            f"{name} has a picture of one color, as ComfyUI 0.18 makes of gray ones with 16 bits; save it with 8 bits, "
            "or connect another one."
        )
    if mask is None:
        masks = image[..., 3] if channels == 4 else None
        masks = None if masks is None or bool((masks >= 0.5).all()) else masks
    else:
        masks = _fitting(name, mask[None] if mask.ndim == 2 else mask, count, size)
    if masks is None:
        return Photos(_in_color(image), (None,) * count)
    each = [masks[min(i, len(masks) - 1)].float().cpu() for i in range(count)]
    filled = [float(m.amax()) >= 0.5 for m in each]
    if mask is not None and not all(filled):
        told.inform(
            f"the mask of {name} is empty, as LoadImage makes it for a picture without transparency, so it counts as "
            "none."
        )
    if mask is not None and any(_holds_the_border(m) for m in each):
        told.tell(
            f"the mask of {name} covers the picture's border, as LoadImage makes it of a transparent background; if "
            "it marks the background, connect Invert Mask."
        )
    return Photos(_in_color(image), tuple(m if full else None for m, full in zip(each, filled, strict=True)))


def _fitting(name: str, mask: torch.Tensor, count: int, size: tuple[int, int]) -> torch.Tensor:
    """The mask at the size of its picture, which its shape must have where it is not empty."""
    check_count(len(mask), count, "mask", NODE)
    own = (mask.shape[1], mask.shape[2])
    if own == size or not bool((mask >= 0.5).any()):
        return mask
    if not alike(own, size):
        raise ValueError(
            f"{NODE}: expected a mask of the shape of {name}, {size[1]} x {size[0]}, got one of {own[1]} x {own[0]}; "
            "connect the mask that was made for this photograph."
        )
    return F.interpolate(mask[:, None].float(), size, mode="nearest-exact")[:, 0]


def _in_color(image: torch.Tensor) -> torch.Tensor:
    return image.repeat(1, 1, 1, 3) if image.shape[-1] == 1 else image


def _holds_the_border(mask: torch.Tensor) -> bool:
    """True for a mask that is on along most of the border and off somewhere inside."""
    edges = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return float(edges.mean()) > 0.9 and bool((mask < 0.5).any())
