"""Overrides of attention that hide the filling of shorter prompts from the tokens of a transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from ...kernels.attention import rotated
from ..host.dit import DiT

HIDDEN = -1e4
"""Added to the logits of hidden keys: their share is 0 in every float type."""


@dataclass(frozen=True, eq=False)
class Bias:
    """A bias [rows, 1, 1, text] of the logits of the first keys. The layers of a model call share its masks."""

    of_text: torch.Tensor
    _made: dict[tuple[int, torch.dtype], tuple[torch.Tensor | None, torch.Tensor]] = field(default_factory=dict)

    def mask(self, own: torch.Tensor | None, keys: int, dtype: torch.dtype) -> torch.Tensor:
        """A mask for that many keys, to be added to the logits. own: the host's mask of the layer."""
        known = self._made.get((keys, dtype))
        if known is not None and known[0] is own:
            return known[1]
        padded = F.pad(self.of_text, (0, keys - self.of_text.shape[-1])).to(dtype)
        made = padded if own is None else padded + _four(own, padded)
        self._made[keys, dtype] = own, made
        return made


@dataclass(frozen=True, eq=False)
class Masked:
    """An override of attention that adds a bias to the logits of the text's keys, the first ones.

    picture: number of the picture's tokens. It leaves attention over other keys alone.
    """

    bias: Bias
    picture: int
    previous: Callable | None

    def __call__(self, func: Callable, q, k, v, heads: int, *args, **kwargs) -> torch.Tensor:
        rows, *_, text = self.bias.of_text.shape
        keys = k.shape[2 if kwargs.get("skip_reshape") else 1]
        # Krea 2 refines the text by itself before it joins the picture.
        if len(k) == rows and (keys == text != self.picture or keys >= text + self.picture):
            args, kwargs = _biased(self.bias, q, keys, args, kwargs)
        return _attended(self.previous, func, q, k, v, heads, *args, **kwargs)


def common_length(lengths: Sequence[int], multiple: int) -> int:
    """The length to which texts of several lengths are filled for one call.

    The host puts learned tokens after each text, up to a multiple. Behind the common length there are as many as any
    of the texts has in a call of its own.
    """
    longest, wanted = max(lengths), max(-length % multiple for length in lengths)
    return longest if -longest % multiple >= wanted else longest + -longest % multiple + 1


@dataclass(eq=False)
class Placed:
    """The override for networks in which a prompt's length places the picture: Z-Image and Lumina 2.

    In one call, all rows have the place of the longest prompt. Everything but the picture is rotated to the distance
    that it has in a call of the row's own, and filling is hidden (RoPE, arXiv 2104.09864: rotations add up). The
    pictures of a call keep one place, so that they see each other as equals.

    mask: [rows, text], 1 for tokens and 0 for filling. size: (height, width) of the latents.
    """

    network: DiT
    mask: torch.Tensor
    size: tuple[int, int]
    previous: Callable | None
    _texts_alone: int = field(default=0, init=False)

    def __post_init__(self):
        multiple = self.network.text_multiple
        height, width = self.network.grid(self.size)
        text, self._picture = self.mask.shape[1], height * width
        learned, after = -text % multiple, -self._picture % multiple
        self._text, self._refined = text + learned, self._picture + after
        lengths = self.mask.sum(1, keepdim=True)
        own = (lengths / multiple).ceil() * multiple
        place = torch.arange(self._text, device=self.mask.device)
        seen = torch.where(place < text, place < lengths, place - text < own - lengths)
        self._bias = Bias(((1 - seen.float()) * HIDDEN)[:, None, None])
        shift = self._text - own
        moves = torch.where(place < text, shift, shift - (text - lengths))
        self._rotations = [self.network.index_rotations(by) for by in (moves, shift.expand(-1, after))]

    def __call__(self, func: Callable, q, k, v, heads: int, *args, **kwargs) -> torch.Tensor:
        split = bool(kwargs.get("skip_reshape"))
        keys = k.shape[2 if split else 1]
        of_text = keys == self._text and self._texts_alone < self.network.text_refiners
        if len(k) == len(self.mask) and (of_text or keys in (self._refined, self._text + self._refined)):
            self._texts_alone += of_text
            text = self._text if of_text or keys > self._refined else 0
            q, k = (self._moved(t, text, keys, split) for t in (q, k))
            if text:
                args, kwargs = _biased(self._bias, q, keys, args, kwargs)
        return _attended(self.previous, func, q, k, v, heads, *args, **kwargs)

    def _moved(self, x: torch.Tensor, text: int, tokens: int, split: bool) -> torch.Tensor:
        """Queries or keys with those of the text and of what follows the picture rotated."""
        picture = min(self._picture, tokens - text)
        parts = list(x.split((text, picture, tokens - text - picture), 2 if split else 1))
        for part, rotation in zip((0, 2), self._rotations, strict=True):
            if parts[part].numel():
                table = rotation[:, None, :, None] if split else rotation[:, :, None]
                parts[part] = rotated(parts[part], table)
        return torch.cat(parts, 2 if split else 1)


def _attended(previous: Callable | None, func: Callable, *args, **kwargs) -> torch.Tensor:
    return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)


def _biased(bias: Bias, q: torch.Tensor, keys: int, args: tuple, kwargs: dict) -> tuple[list, dict]:
    """The arguments after the number of heads, with a bias of the first keys in their mask."""
    own, *rest = args or (kwargs.get("mask"),)
    return rest, {**kwargs, "mask": bias.mask(own, keys, q.dtype)}


def _four(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A mask as the host reads it, as [rows or 1, heads or 1, queries or 1, keys] to be added."""
    if mask.ndim < 4:
        mask = (mask[None] if mask.ndim == 2 else mask)[:, None]
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, HIDDEN) if mask.dtype == torch.bool else mask
