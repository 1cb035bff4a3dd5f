"""Places of reference pictures beside the target, for networks that know tokens by their positions."""

from __future__ import annotations

from collections.abc import Sequence

from ..host.family import Shift
from ..host.reference_places import Taken

SAME, BESIDE, INDEX = POSITIONS = ("same", "beside", "index")
"""SAME: the target's own positions, where tokens of one place collide. BESIDE: to the right of the target, each after
the one before. INDEX: further pictures of a sequence, as the host numbers its own references, and after these."""
_FREE = Taken()


def shifts(
    positions: str,
    size: tuple[int, int],
    references: Sequence[tuple[int, int]],
    *,
    centered: bool = False,
    taken: Taken = _FREE,
) -> tuple[Shift, ...]:
    """The move of each reference's keys. size, references: (height, width) of the target's and their tokens.

    centered: positions count from the center of each picture. taken: places that the host's own references have.
    """
    if positions == SAME:
        return (Shift(),) * len(references)
    if positions == INDEX:
        return tuple(Shift(index=float(taken.index + i + 1)) for i in range(len(references)))
    found, right = [], size[1]
    if any(height > size[0] for height, _ in references):
        # Pictures of the host on the diagonal begin below the target.
        right += taken.diagonal
    for _, width in references:
        # Each center is moved by half of both widths, rounded so that no two pictures touch.
        found.append(Shift(right=float(right - size[1] // 2 + width // 2 if centered else right)))
        right += width
    return tuple(found)
