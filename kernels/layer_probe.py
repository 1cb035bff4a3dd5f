"""Tests of what a layer's attention follows, position or content, by the same picture moved sideways.

FreeFlux (arXiv 2503.16153) moves the rotations of keys instead, which a network without rotations does not have.
"""

from __future__ import annotations

import torch


def exchanged(k: torch.Tensor, v: torch.Tensor, picture: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of two tests and of the moved picture, each a third of the rows in this order.

    Test of position: keys and values of the moved picture, so the same content stands in other places. Attention that
    follows content finds it there. Test of content: the moved picture's keys over the own values, so other content
    stands in the same places. Attention that follows positions does not see it.
    k, v: [3 * n, tokens, width]. picture: the number of the picture's tokens, the first ones; all others stay.
    """
    rows = len(k) // 3
    keys = torch.cat([k[2 * rows :, :picture].repeat(3, 1, 1), k[:, picture:]], 1)
    moved, own = v[2 * rows :, :picture], v[rows : 2 * rows, :picture]
    return keys, torch.cat([torch.cat([moved, own, moved]), v[:, picture:]], 1)


def relative_change(plain: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """||changed - plain|| / ||plain - mean(plain)|| of each row, in fp32: [rows].

    plain, changed: [rows, ...].
    """
    plain, changed = plain.float().flatten(1), changed.float().flatten(1)
    spread = plain.var(1, correction=0)
    return ((changed - plain).square().mean(1) / spread.clamp(min=torch.finfo(torch.float32).tiny)).sqrt()


def leaning(position: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """content / mean(content) - position / mean(position): above 0 for layers that lean to content, [layers].

    position, content: the change in each test, [layers]. The means make both tests comparable, and a layer without
    effect leans to neither side.
    """
    tiny = torch.finfo(torch.float32).tiny
    return content / content.mean().clamp(min=tiny) - position / position.mean().clamp(min=tiny)


def sides(lean: torch.Tensor, share: float) -> tuple[list[int], list[int]]:
    """Indices of the layers that lean most to position, and of those that lean most to content.

    lean: [layers]. share: of all layers, up to 0.5, that each list has at most, and at least one if any leans there.
    """
    values = [float(value) for value in lean]
    count = max(1, int(share * len(values)))
    ordered = sorted(range(len(values)), key=lambda i: values[i])
    return sorted(i for i in ordered[:count] if values[i] < 0), sorted(i for i in ordered[-count:] if values[i] > 0)
