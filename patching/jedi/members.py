"""The given members of a set: references of any size, brought to the size of the pictures that are to be generated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import comfy.utils
import torch
import torch.nn.functional as F

from ..features.references import NOISED, Reference, References, pixels_per_latent, tokens_inside
from ..host.checks import check_latent, image_latent, single
from ..host.same import same

_POOLED = "pooled_output"


@dataclass(frozen=True)
class Member:
    """samples: [1, channels, height, width], as a LATENT holds them; shown: [height, width] over the same picture, 1
    where there is something to look at, None is everywhere."""

    samples: torch.Tensor
    shown: torch.Tensor | None

    def tokens(self, size: tuple[int, int]) -> torch.Tensor | None:
        """Indices of what is shown at a layer of (height, width); None for all."""
        return None if self.shown is None else tokens_inside(self.shown, size)


def known_members(
    model, given: Sequence[References | dict], captions: Sequence[list], negative: list, node: str
) -> tuple[Reference, ...]:
    """What a node was given as references, each with its caption.

    given: References, and LATENTs of one or more pictures, whose caption is that of `captions`, or `negative` without
    any. captions: none, one for all or one for each. Raises ValueError in one sentence.
    """
    items: list[Reference] = []
    for part in given:
        if isinstance(part, References):
            items += part.items
        else:
            check_latent(part["samples"], node)
            items += (Reference({"samples": samples}, negative, NOISED, 0) for samples in part["samples"].split(1))
    if len(captions) not in (0, 1, len(items)) or (captions and not items):
        raise ValueError(
            f"{node}: expected no caption, one for all references or one for each, got {len(captions)} for "
            f"{len(items)} references; connect as many captions as there are references."
        )
    if captions:
        each = captions if len(captions) > 1 else [*captions] * len(items)
        items = [replace(item, conditioning=text) for item, text in zip(items, each, strict=True)]
    if any(item.weight != 1 for item in items):
        raise ValueError(
            f"{node}: expected references of weight 1, since a set has no members of more or less weight, got "
            f"{', '.join(f'{item.weight:g}' for item in items)}; set weight to 1 on LikenessReference."
        )
    for item in items:
        what = (
            "negative prompt, which is the references' caption where caption is not connected,"
            if item.conditioning is negative
            else None
        )
        single(item.conditioning, node, what or "caption of a reference")
        image_latent(model, item.latent, node)
    return tuple(items)


def fitted(item: Reference, height: int, width: int, node: str) -> Member:
    """A reference on a canvas of (height, width) latent pixels: as large as fits, in the middle, whatever is around it
    not looked at.

    A picture is scaled; a latent cannot be, so one that is too large is a ValueError in one sentence.
    """
    samples = item.latent["samples"]
    if samples.shape[2:] == (height, width):
        return Member(samples, item.mask)
    if (height, width) not in item.sizes:
        item.sizes[height, width] = (
            _padded(item, height, width, node) if item.image is None else _scaled(item, height, width)
        )
    return item.sizes[height, width]


def _padded(item: Reference, height: int, width: int, node: str) -> Member:
    samples = item.latent["samples"]
    rows, columns = samples.shape[2:]
    if rows > height or columns > width:
        raise ValueError(
            f"{node}: expected references that fit into the latent of {width} x {height}, got one of {columns} x "
            f"{rows} latent pixels; give the sampler a larger latent, or connect LikenessReference itself, which "
            "scales its picture."
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
    """Left, right, top, bottom, as torch pads."""
    left, top = (width - columns) // 2, (height - rows) // 2
    return [left, width - columns - left, top, height - rows - top]


def stacked(texts: Sequence[list], pooled: bool, node: str) -> list:
    """Several CONDITIONINGs of one entry as one, with a row for each. Raises ValueError where they do not go together.

    pooled: whether the model looks at their pooled outputs.
    """
    entries = [
        (text[0][0], {k: v for k, v in text[0][1].items() if v is not None and (pooled or k != _POOLED)})
        for text in texts
    ]
    first, facts = entries[0]
    for text, rest in entries:
        if len(text) != 1:
            raise ValueError(
                f"{node}: expected prompts and captions of one text each, got a batch of {len(text)} in one; "
                "connect the output of CLIPTextEncode itself, or of LikenessPromptList."
            )
        if text.shape[2] != first.shape[2]:
            raise ValueError(
                f"{node}: expected prompts and captions of one text width, got {first.shape[2]} and {text.shape[2]}; "
                "encode all of them with the same CLIP."
            )
        unlike = sorted(k for k in {*rest, *facts} if k != _POOLED and not same(rest.get(k), facts.get(k)))
        if unlike or (_POOLED in rest) != (_POOLED in facts):
            raise ValueError(
                f"{node}: expected prompts and captions that differ in their text alone, got others in "
                f"{', '.join(unlike) or _POOLED}; encode all of them with the same kind of node and the same settings."
            )
    # Repeated text is the same text to cross-attention; the host pads prompts of different lengths so, too.
    longest = math.lcm(*(text.shape[1] for text, _ in entries))
    together = torch.cat([text.to(first).repeat(1, longest // text.shape[1], 1) for text, _ in entries])
    if _POOLED not in facts:
        return [[together, facts]]
    return [[together, {**facts, _POOLED: torch.cat([rest[_POOLED].to(facts[_POOLED]) for _, rest in entries])}]]
