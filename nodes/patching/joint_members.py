"""The given members of a set: references of any size, brought to the size of the pictures that are to be generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import comfy.utils
import torch
import torch.nn.functional as F

from .checks import check_latent
from .references import NOISED, Reference, References, pixels_per_latent, single, tokens_inside
from .sources import image_latent


@dataclass(frozen=True)
class Member:
    """samples: [1, channels, height, width], as a LATENT holds them; shown: [height, width] over the same picture, 1 where there is
    something to look at, None is everywhere."""

    samples: torch.Tensor
    shown: torch.Tensor | None

    def tokens(self, size: tuple[int, int]) -> torch.Tensor | None:
        """Indices of what is shown at a layer of (height, width); None for all."""
        return None if self.shown is None else tokens_inside(self.shown, size)


def known_members(model, references: References | dict | None, caption: list | None, negative: list, node: str) -> tuple[Reference, ...]:
    """What a node was given as references, each with its caption.

    references: References, or a LATENT of one or more pictures, whose caption is `caption`, or `negative` without one. A caption given
    here is that of all. Raises ValueError in one sentence.
    """
    if references is None:
        return ()
    if isinstance(references, References):
        items = references.items if caption is None else tuple(replace(item, conditioning=caption) for item in references.items)
    else:
        check_latent(references["samples"], node)
        text = negative if caption is None else caption
        # Every picture its own noise, also where there are several.
        items = tuple(Reference({"samples": s}, text, NOISED, i) for i, s in enumerate(references["samples"].split(1)))
    if any(item.weight != 1 for item in items):
        raise ValueError(
            f"{node}: expected references of weight 1, since a set has no members of more or less weight, got "
            f"{', '.join(f'{item.weight:g}' for item in items)}; set weight to 1 on LikenessReference."
        )
    for item in items:
        single(item.conditioning, node, "caption of a reference")
        image_latent(model, item.latent, node)
    return items


def fitted(item: Reference, height: int, width: int, node: str) -> Member:
    """A reference on a canvas of (height, width) latent pixels: as large as fits, in the middle, whatever is around it not looked at.

    A picture is scaled; a latent cannot be, so one that is too large is a ValueError in one sentence.
    """
    samples = item.latent["samples"]
    if samples.shape[2:] == (height, width):
        return Member(samples, item.mask)
    if (height, width) not in item.sizes:
        item.sizes[height, width] = _padded(item, height, width, node) if item.image is None else _scaled(item, height, width)
    return item.sizes[height, width]


def _padded(item: Reference, height: int, width: int, node: str) -> Member:
    samples = item.latent["samples"]
    rows, columns = samples.shape[2:]
    if rows > height or columns > width:
        raise ValueError(
            f"{node}: expected references that fit into the latent of {width} x {height}, got one of {columns} x {rows} latent pixels; "
            "give the sampler a larger latent, or connect LikenessReference, which scales its picture."
        )
    margins = _margins(height, width, rows, columns)
    scale = 1 if item.mask is None else item.mask.shape[0] // rows
    shown = torch.ones(rows * scale, columns * scale) if item.mask is None else item.mask
    return Member(F.pad(samples, margins, mode="replicate"), F.pad(shown, [scale * m for m in margins]))


def _scaled(item: Reference, height: int, width: int) -> Member:
    assert item.image is not None
    ratio = pixels_per_latent(item.vae)
    picture = item.image.movedim(-1, 1)
    scale = min(height * ratio / picture.shape[2], width * ratio / picture.shape[3])
    rows, columns = (max(1, min(most, round(n * scale / ratio))) for most, n in ((height, picture.shape[2]), (width, picture.shape[3])))
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
    """Left, right, top, bottom, as torch pads."""
    left, top = (width - columns) // 2, (height - rows) // 2
    return [left, width - columns - left, top, height - rows - top]


def stacked(texts: Sequence[list], node: str) -> list:
    """Several CONDITIONINGs as one, with a row for each. Raises ValueError where they do not go together."""
    entries = [text[0] for text in texts]
    lengths = [entry[0].shape[1] for entry in entries]
    longest = max(lengths)
    for what, values in (("text width", [e[0].shape[2] for e in entries]), ("further fields", [_fields(e[1]) for e in entries])):
        if any(value != values[0] for value in values):
            raise ValueError(
                f"{node}: expected prompts and captions of one {what}, got {' and '.join(str(v) for v in dict.fromkeys(values))}; "
                "encode all of them with the same CLIP and the same kind of node."
            )
    if any(longest % length for length in lengths):
        raise ValueError(
            f"{node}: expected prompts and captions that are repeated to one length, got {' and '.join(map(str, sorted(set(lengths))))} "
            "tokens; shorten the longest prompt."
        )
    # Repeated text is the same text to cross-attention; the host pads prompts of different lengths so, too.
    text = torch.cat([e[0].repeat(1, longest // e[0].shape[1], 1) for e in entries])
    rest = dict(entries[0][1])
    if rest.get("pooled_output") is not None:
        rest["pooled_output"] = torch.cat([e[1]["pooled_output"] for e in entries])
    return [[text, rest]]


def _fields(rest: dict) -> tuple:
    """What has to be the same for all rows of one call."""
    return tuple(sorted((k, v) for k, v in rest.items() if isinstance(v, int | float | str))) + tuple(
        sorted(k for k, v in rest.items() if not isinstance(v, int | float | str) and v is not None)
    )
