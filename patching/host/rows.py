"""The rows of a model call: whose picture each one is, and on which side of guidance. Knows no host."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import NamedTuple

import torch

TARGET = "target"


class Row(NamedTuple):
    """One row of a model call. role: whose picture it is; image: its number within the role; conditional: with the
    prompt or without."""

    role: str
    image: int
    conditional: bool


def rows_of_call(conditional: Sequence[bool], batch: int, roles: Sequence[str] | None = None) -> tuple[Row, ...]:
    """The rows of a call in order: the host stacks one chunk of the whole latent batch per conditioning.

    conditional: one entry per chunk. batch: rows per chunk. roles: one name per row of the batch; all are targets by
    default. Raises ValueError where roles and batch differ.
    """
    roles = (TARGET,) * batch if roles is None else tuple(roles)
    if len(roles) != batch:
        raise ValueError(f"rows_of_call: expected {batch} roles, one per latent of the batch, got {len(roles)}.")
    images = [roles[:i].count(role) for i, role in enumerate(roles)]
    return tuple(Row(role, image, c) for c in conditional for role, image in zip(roles, images, strict=True))


def indices(
    rows: Sequence[Row], role: str | None = None, conditional: bool | None = None, image: int | None = None
) -> tuple[int, ...]:
    """Positions of the rows that match everything that is not None, in order."""
    return tuple(
        i
        for i, row in enumerate(rows)
        if (role is None or row.role == role)
        and (conditional is None or row.conditional == conditional)
        and (image is None or row.image == image)
    )


def conditional_chunks(
    cond_or_uncond: Sequence[int],
    uuids: Sequence[Hashable] = (),
    owners: Mapping[str, Collection[Hashable]] | None = None,
) -> tuple[bool, ...]:
    """Which chunks carry a prompt.

    cond_or_uncond: per chunk, its index in the list of conditionings that the guider evaluates. Guiders order that list
    differently (plain guidance puts the positive first, guidance with two prompts the negative), so a chunk belongs to
    the conditioning that owns its uuid; the host may copy a uuid to the other side, and then the plain order decides:
    index 0 is the positive. owners: the uuids of each of the guider's named conditionings; the names with "negative" in
    them are the unconditional ones.
    """
    result = []
    for position, index in enumerate(cond_or_uncond):
        uuid = uuids[position] if position < len(uuids) else None
        sides = {"negative" not in name for name, known in (owners or {}).items() if uuid in known}
        result.append(sides.pop() if len(sides) == 1 else index == 0)
    return tuple(result)


def take(values: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Some rows, without an index tensor that would have to travel to the device."""
    first, last = rows[0], rows[-1]
    if tuple(rows) == tuple(range(first, last + 1)):
        return values[first : last + 1]
    return torch.stack([values[i] for i in rows])
