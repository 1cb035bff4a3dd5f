"""The given members of a set: references of any size, fitted to the size of the pictures to generate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import comfy.utils
import torch
import torch.nn.functional as F

from ..features.fitting import pixels_per_latent
from ..features.references import NOISED, Reference, References, tokens_inside
from ..host.checks import check_latent, check_vae, image_latent, single

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


@dataclass(frozen=True)
class Member:
    """A given picture of a set.

    samples: [1, channels, height, width], as a LATENT holds them. shown: mask [height, width] over the same picture, 1
    where other members may attend to it, None for everywhere.
    """

    samples: torch.Tensor
    shown: torch.Tensor | None

    def tokens(self, size: tuple[int, int]) -> torch.Tensor | None:
        """Indices of the shown tokens at a layer of (height, width); None for all."""
        return None if self.shown is None else tokens_inside(self.shown, size)


def known_members(
    model: ModelPatcher, given: Sequence[References | dict], captions: Sequence[list], default: list, node: str
) -> tuple[Reference, ...]:
    """The references given to a node, each with its caption.

    given: References, or LATENTs of one or more pictures. A LATENT's pictures have the caption `default`.
    captions: CONDITIONINGs that replace them: none, one for all or one for each.
    Raises ValueError for another number of captions, for weights other than 1 and for latents that do not fit model.
    """
    items: list[Reference] = []
    for part in given:
        if isinstance(part, References):
            items += part.items
        else:
            check_latent(part["samples"], node)
            items += (Reference({"samples": samples}, default, NOISED, 0) for samples in part["samples"].split(1))
    if len(captions) not in (0, 1, len(items)) or (captions and not items):
        if not items:
            raise ValueError(
                f"{node}: expected references for the caption to describe, got none; connect references, or disconnect "
                "caption."
            )
        raise ValueError(
            f"{node}: expected no caption, one for all references or one for each, got {len(captions)} captions for "
            f"{len(items)} of them; connect as many captions as there are references."
        )
    if captions:
        each = captions if len(captions) > 1 else [*captions] * len(items)
        items = [replace(item, conditioning=text) for item, text in zip(items, each, strict=True)]
    if any(item.weight != 1 for item in items):
        raise ValueError(
            f"{node}: expected references of weight 1, since a set has no members of more or less weight, got "
            f"{', '.join(f'{item.weight:g}' for item in items)}; set weight to 1 on Reference Picture."
        )
    for item in items:
        what = (
            "negative prompt, which is the references' caption where caption is not connected,"
            if item.conditioning is default
            else "caption of a reference"
        )
        single(item.conditioning, node, what)
        check_vae(model, item.vae, node)
        if item.given is not None:
            image_latent(model, item.given, node)
    return tuple(items)


def fitted(item: Reference, height: int, width: int, node: str) -> Member:
    """A reference centered on a canvas of (height, width) latent pixels, as large as fits, its margins not shown.

    A picture is scaled. A latent cannot be scaled: raises ValueError for one that is too large.
    """
    if item.size == (height, width):
        return Member(item.latent["samples"], item.mask)
    if (height, width) not in item.sizes:
        item.sizes[height, width] = (
            _padded(item, height, width, node) if item.image is None else _scaled(item, height, width)
        )
    return item.sizes[height, width]


def _padded(item: Reference, height: int, width: int, node: str) -> Member:
    samples = item.latent["samples"]
    rows, columns = samples.shape[-2:]
    if rows > height or columns > width:
        raise ValueError(
            f"{node}: expected references that fit into the latent of {width} x {height}, got one of {columns} x "
            f"{rows} latent pixels; give the sampler a larger latent, or connect Reference Picture itself, which "
            "scales its picture."
        )
    margins = _margins(height, width, rows, columns)
    scale = 1 if item.mask is None else item.mask.shape[0] // rows
    shown = torch.ones(rows * scale, columns * scale) if item.mask is None else item.mask
    frames = [0, 0] * (samples.ndim - 4)
    return Member(F.pad(samples, [*margins, *frames], mode="replicate"), F.pad(shown, [scale * m for m in margins]))


def _scaled(item: Reference, height: int, width: int) -> Member:
    assert item.image is not None and item.vae is not None
    ratio = pixels_per_latent(item.vae)
    picture = item.image.movedim(-1, 1)
    scale = min(height * ratio / picture.shape[2], width * ratio / picture.shape[3])
    rows, columns = (
        max(1, min(most, round(n * scale / ratio)))
        for most, n in ((height, picture.shape[2]), (width, picture.shape[3]))
    )
    margins = _margins(height, width, rows, columns)
    inside = comfy.utils.common_upscale(picture, columns * ratio, rows * ratio, "lanczos", "disabled")
    canvas = F.pad(inside.float(), [ratio * m for m in margins], mode="replicate")
    samples = item.vae.encode(canvas.movedim(1, -1))
    if item.mask is None and not any(margins):
        return Member(samples, None)
    mask = torch.ones(rows, columns) if item.mask is None else item.mask
    shown = F.interpolate(mask[None, None], (rows * ratio, columns * ratio), mode="area")[0, 0]
    return Member(samples, F.pad(shown, [ratio * m for m in margins]))


def _margins(height: int, width: int, rows: int, columns: int) -> list[int]:
    """Left, right, top and bottom margin, in the order of torch's pad."""
    left, top = (width - columns) // 2, (height - rows) // 2
    return [left, width - columns - left, top, height - rows - top]
