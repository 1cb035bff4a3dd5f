"""The rows of a model call: the picture of each row, and its side of guidance. Independent of ComfyUI."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import NamedTuple

import torch

TARGET = "target"


class Row(NamedTuple):
    """One row of a model call.

    role: the kind of picture. image: its number within the role. conditional: with the prompt or without.
    """

    role: str
    image: int
    conditional: bool


def rows_of_call(
    conditional: Sequence[bool], batch: int, roles: Sequence[str] | None = None, images: Sequence[int] | None = None
) -> tuple[Row, ...]:
    """The rows of a call in order: the host stacks one chunk of the call's latents per conditioning.

    conditional: one entry per chunk. batch: rows per chunk. roles: one name per row of the batch, TARGET by default.
    images: the number of each row of the batch, counted within its role by default.
    Raises ValueError if the number of roles is not `batch`.
    """
    roles = (TARGET,) * batch if roles is None else tuple(roles)
    if len(roles) != batch:
        raise ValueError(f"rows_of_call: expected {batch} roles, one per latent of the batch, got {len(roles)}.")
    images = [roles[:i].count(role) for i, role in enumerate(roles)] if images is None else images
    return tuple(Row(role, image, c) for c in conditional for role, image in zip(roles, images, strict=True))


def indices(
    rows: Sequence[Row], role: str | None = None, conditional: bool | None = None, image: int | None = None
) -> tuple[int, ...]:
    """Positions of the rows that match all arguments other than None, in order."""
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
    """Flags of the chunks that carry a prompt.

    cond_or_uncond: per chunk, its index in the guider's list of conditionings.
    uuids: per chunk, the uuid of its conditioning.
    owners: the uuids of the guider's named conditionings; names with "negative" in them are unconditional.

    Guiders order their lists differently: CFG puts the positive first, dual CFG the negative. So the owner of the uuid
    decides. The host may copy a uuid to the other side; then index 0 is the positive.
    """
    result = []
    for position, index in enumerate(cond_or_uncond):
        uuid = uuids[position] if position < len(uuids) else None
        sides = {"negative" not in name for name, known in (owners or {}).items() if uuid in known}
        result.append(sides.pop() if len(sides) == 1 else index == 0)
    return tuple(result)


def take(values: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """The given rows of a tensor, without an index tensor that would be copied to the device."""
    first, last = rows[0], rows[-1]
    if tuple(rows) == tuple(range(first, last + 1)):
        return values[first : last + 1]
    return torch.stack([values[i] for i in rows])
