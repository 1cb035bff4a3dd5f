"""The part of a run's latents in a model call: all pictures, some of the batch, or an area of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from .family import Options

_PIXELS = 8  # per latent pixel


class Area(NamedTuple):
    """A rectangle in latent pixels."""

    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class Shown:
    """The part of a run that one model call evaluates.

    batch, size: pictures of the run, (height, width) of its latents. count, seen: those of the call, per prompt.
    images: numbers of the call's pictures in the run, None where another node has arranged the rows in its own way.
    areas: one per prompt, None where another node has cut out the part.
    """

    batch: int
    size: tuple[int, int]
    count: int
    seen: tuple[int, int]
    images: tuple[int, ...] | None
    areas: tuple[Area | None, ...]

    @property
    def whole(self) -> bool:
        """True where the call has the whole run, in the run's order."""
        return self.images == tuple(range(self.batch)) and self.seen == self.size

    def of_pictures(self, values: torch.Tensor, node: str) -> torch.Tensor:
        """Values [1 or batch, ...] of the run's pictures for those of the call; one row serves every picture.

        Returns the rows of one prompt. Raises ValueError where the pictures cannot be told apart.
        """
        if len(values) == 1:
            return values.expand(self.count, *values.shape[1:])
        if self.images is None:
            raise ValueError(self.refusal(node))
        if self.images == tuple(range(len(values))):
            return values
        return torch.stack([values[i] for i in self.images])

    def of_latents(self, values: torch.Tensor, node: str) -> torch.Tensor:
        """Latents [1 or batch, channels, height, width] of the whole run, for the rows of the call, prompt by prompt.

        Raises ValueError where pictures or areas cannot be told apart.
        """
        picked = self.of_pictures(values, node)
        if self.seen == self.size:
            return picked.repeat(len(self.areas), *[1] * (picked.ndim - 1))
        parts = []
        for area in self.areas:
            if area is None:
                raise ValueError(self.refusal(node))
            parts.append(picked[..., area.top : area.top + area.height, area.left : area.left + area.width])
        return torch.cat(parts)

    def refusal(self, node: str, instead: str = "") -> str:
        """The sentence for a call that shows a part of the run. instead: another way out, after a comma."""
        if self.seen == self.size:
            if self.images is None:
                return (
                    f"{node}: expected model calls with all {self.batch} pictures of the run, got one with "
                    f"{self.count}; remove the node that divides the batch (such as Tiled Diffusion) from model"
                    f"{instead}."
                )
            return (
                f"{node}: expected model calls with all {self.batch} pictures of the run, got a context window of "
                f"{self.count}; remove the context windows from model, or set their length to the batch size{instead}."
            )
        width, height = (_PIXELS * n for n in (self.seen[1], self.seen[0]))
        if None in self.areas:
            return (
                f"{node}: expected model calls with the whole picture, {_PIXELS * self.size[1]} x "
                f"{_PIXELS * self.size[0]} pixels, got one with {width} x {height}; remove the node that divides the "
                f"picture (such as Tiled Diffusion or context windows) from model{instead}."
            )
        return (
            f"{node}: expected prompts for the whole picture, got one for an area of {width} x {height} pixels; remove "
            f"the area from the sampler's prompts{instead}."
        )


def check_context_windows(options: Options, batch: int, size: tuple[int, int], node: str) -> None:
    """Raises ValueError where the context windows of a guider's model_options would divide a batch or its latents."""
    handler: Any = options.get("context_handler")
    length = getattr(handler, "context_length", None)
    extent = {0: batch, 2: size[0], 3: size[1]}.get(getattr(handler, "dim", -1))
    if length is None or extent is None or extent <= length:
        return
    what = f"{batch} pictures" if extent == batch and handler.dim == 0 else "the whole picture"
    raise ValueError(
        f"{node}: expected model calls with {what}, got context windows of {length}; remove the context windows from "
        f"model, or set their length to {extent}."
    )


def shown_images(options: Options, count: int, batch: int) -> tuple[int, ...] | None:
    """The numbers in the run's batch of the pictures in a call; None where they cannot be told.

    count: pictures in the call. batch: pictures of the run.
    """
    window: Any = options.get("context_window")
    if window is not None and getattr(window, "dim", None) == 0:
        anchor = getattr(window, "causal_anchor_index", None)
        # The host may put the picture before the window in front of it.
        images = (*([] if anchor is None or anchor < 0 else [anchor]), *window.index_list)
        if len(images) == count and all(0 <= i < batch for i in images):
            return tuple(images)
    return tuple(range(batch)) if count == batch else None


def shown_areas(
    entries: Sequence[dict | None], seen: tuple[int, int], size: tuple[int, int]
) -> tuple[Area | None, ...]:
    """The area of each prompt of a call; None for a part that is not the prompt's own area.

    entries: the conditioning's entry of each prompt, None if unknown. seen, size: (height, width) of call and run.
    """
    if seen == size:
        return (Area(*size, 0, 0),) * len(entries)
    return tuple(_area(entry, seen, size) for entry in entries)


def _area(entry: dict | None, seen: tuple[int, int], size: tuple[int, int]) -> Area | None:
    given = None if entry is None else entry.get("area")
    if given is None or len(given) != 4:
        return None
    height, width, top, left = given
    # The host cuts an area at the border of the picture.
    found = Area(min(size[0] - top, height), min(size[1] - left, width), top, left)
    return found if found[:2] == seen else None
