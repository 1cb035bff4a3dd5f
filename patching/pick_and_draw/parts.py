"""The part of a run's latents that one prompt of a step covers: some images, or an area of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..host.family import Options
from ..host.rows import take
from ..host.shown import Shown


@dataclass(frozen=True)
class Part:
    """Images and area of one prompt or of one step.

    images: their numbers in the run, one per row. size: (height, width) of the run's latents. area: (height, width,
    top, left) in latent pixels, None for all.
    """

    images: tuple[int, ...]
    size: tuple[int, int]
    area: tuple[int, int, int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, height, width) of the model calls for this part."""
        return (len(self.images), *(self.size if self.area is None else self.area[:2]))

    def crop(self, maps: torch.Tensor) -> torch.Tensor:
        """The part of maps of whole pictures, [images or 1, height, width] of any size, at least one pixel of it."""
        if len(maps) > 1 and self.images != tuple(range(len(maps))):
            maps = take(maps, self.images)
        if self.area is None:
            return maps
        rows, columns = (_span(self.area[i], self.area[i + 2], self.size[i], maps.shape[i + 1]) for i in (0, 1))
        return maps[:, rows, columns]

    def cut(self, latents: torch.Tensor) -> torch.Tensor:
        """The part of latents or masks of the run, [images or 1, channels, height, width]."""
        if len(latents) > 1 and self.images != tuple(range(len(latents))):
            latents = take(latents, self.images)
        if self.area is None:
            return latents
        height, width, top, left = self.area
        return latents[..., top : top + height, left : left + width]

    def cover(self, latents: torch.Tensor) -> torch.Tensor:
        """1 inside the area and 0 outside, [1, 1, ..., height, width], of the type of latents."""
        covered = latents.new_zeros(*[1] * (latents.ndim - 2), *self.size)
        self.cut(covered).fill_(1)
        return covered

    def of_entry(self, entry: dict, node: str) -> Part:
        """The part that a conditioning's entry covers of this step. Raises ValueError for an area of an area."""
        area = entry.get("area")
        if area is None:
            return self
        if self.area is not None:
            raise ValueError(
                f"{node}: expected a prompt for the whole picture in context windows of it, got one for an area; "
                "remove ConditioningSetArea or the windows."
            )
        height, width, top, left = area
        # The host cuts an area at the border of the picture.
        return replace(self, area=(min(height, self.size[0] - top), min(width, self.size[1] - left), top, left))


def _span(length: int, start: int, whole: int, pixels: int) -> slice:
    """The pixels of a map that a part of the latent's rows or columns covers."""
    first = min(round(start / whole * pixels), pixels - 1)
    return slice(first, max(first + 1, round((start + length) / whole * pixels)))


def part_of_step(shown: Shown, options: Options, node: str) -> Part:
    """The part of a run that a step shows: everything, or a context window of pictures, rows or columns.

    options: the step's transformer_options. Raises ValueError where it is not known what the step shows.
    """
    if shown.images is not None and shown.seen == shown.size:
        return Part(shown.images, shown.size)
    window = options.get("context_window")
    dim = getattr(window, "dim", None)
    if shown.images is not None and window is not None and dim in (2, 3):
        numbers = window.get_tensor(torch.arange(shown.size[dim - 2]), dim=0).tolist()
        first, count = numbers[0], len(numbers)
        area = (count, shown.size[1], first, 0) if dim == 2 else (shown.size[0], count, 0, first)
        if numbers == list(range(first, first + count)) and area[:2] == shown.seen:
            return Part(shown.images, shown.size, area)
    raise ValueError(shown.refusal(node))


def check_call(x: torch.Tensor, part: Part, node: str) -> None:
    """Raises ValueError for a model call on tiles of a part, whose features are not those of the part."""
    got = (len(x), *x.shape[-2:])
    if got != part.shape:
        rows, height, width = part.shape
        raise ValueError(
            f"{node}: expected model calls on {rows} latents of {width} x {height}, got one on {got[0]} of {got[2]} x "
            f"{got[1]}; remove the node that runs the picture in tiles or other parts (such as Tiled Diffusion) from "
            "model."
        )
