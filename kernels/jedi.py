"""JeDi (arXiv 2407.06187): pictures of one subject that are denoised together, with some of them given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(q [rows, n, width], k and v [rows, m, width]) -> [rows, n, width]"""

CHANNELS = 4
MASK_FIRST, NOISY_FIRST = "mask, noisy, clean", "noisy, mask, clean"
ORDERS = (MASK_FIRST, NOISY_FIRST)
"""How the nine input channels of a checkpoint follow each other: the paper's order (section 3.2), and that of
inpainting models."""


def joined(hidden: torch.Tensor, members: int) -> torch.Tensor:
    """The reshape before coupled self-attention (JeDi, arXiv 2407.06187, section 3.1): the tokens of a set as those of
    one picture.

    hidden: [sets * members, n, width], the members of a set one after the other. Returns [sets, members * n, width].
    """
    return hidden.unflatten(0, (-1, members)).flatten(1, 2)


def apart(hidden: torch.Tensor, members: int) -> torch.Tensor:
    """The reshape after coupled self-attention (JeDi, arXiv 2407.06187, section 3.1): the inverse of `joined`."""
    return hidden.unflatten(1, (members, -1)).flatten(0, 1)


def coupled_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    members: int,
    attention: Attention,
    strength: float = 1.0,
    lent: Sequence[torch.Tensor | None] | None = None,
) -> torch.Tensor:
    """Self-attention over all pictures of a set (JeDi, arXiv 2407.06187, section 3.1), which none of them is ahead of
    another in.

    q, k, v: [sets * members, n, width]. strength: 0 is every picture by itself, 1 the paper's; between them the two
    outputs are mixed. lent: per member the indices of the tokens that the others look at, None for all; every picture
    looks at all of its own. Returns [sets * members, n, width]. One member is the attention itself.
    """
    if members == 1 or strength == 0:
        return attention(q, k, v)
    if lent is None or all(tokens is None for tokens in lent):
        together = apart(attention(joined(q, members), joined(k, members), joined(v, members)), members)
    else:
        together = _masked(q, k, v, members, attention, lent)
    return together if strength == 1 else torch.lerp(attention(q, k, v), together, strength)


def _masked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, members: int, attention: Attention, lent: Sequence
) -> torch.Tensor:
    queries, keys, values = (x.unflatten(0, (-1, members)) for x in (q, k, v))

    def seen_by(i: int, projected: torch.Tensor) -> torch.Tensor:
        parts = [
            projected[:, j] if j == i or tokens is None else projected[:, j, tokens] for j, tokens in enumerate(lent)
        ]
        return torch.cat(parts, 1)

    outputs = [attention(queries[:, i], seen_by(i, keys), seen_by(i, values)) for i in range(members)]
    return torch.stack(outputs, 1).flatten(0, 1)


def given_channels(clean: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
    """What the network is told of the pictures that are given: cat[m, x_0 (1 - m)] (JeDi, arXiv 2407.06187,
    supplement).

    clean: [rows, 4, height, width] clean latents; missing: [rows], 1 where a picture is to be generated and 0 where it
    is given: the formula's polarity, which is told nowhere else. Returns [rows, 5, height, width].
    """
    mask = missing.to(clean).view(-1, 1, 1, 1)
    return torch.cat([mask.expand(-1, 1, *clean.shape[2:]), clean * (1 - mask)], 1)


def noisy_first(order: str) -> tuple[int, ...]:
    """Which of a checkpoint's input channels come where the noisy latent is put before `given_channels`.

    order: one of ORDERS. Raises ValueError for another.
    """
    noisy, rest = tuple(range(CHANNELS)), tuple(range(CHANNELS + 1, 2 * CHANNELS + 1))
    if order == NOISY_FIRST:
        return (*noisy, CHANNELS, *rest)
    if order == MASK_FIRST:
        return (*(1 + i for i in noisy), 0, *rest)
    raise ValueError(f"noisy_first: expected one of {', '.join(ORDERS)}, got {order}.")


def arranged(x: torch.Tensor, order: str, one_is_missing: bool = True) -> torch.Tensor:
    """A network's input as its checkpoint wants it (JeDi, arXiv 2407.06187, supplement): the channels of cat[noisy, m,
    x_0 (1 - m)] in another order, the one that `noisy_first` undoes.

    x: [rows, 9, height, width]; order: one of ORDERS; one_is_missing: the paper's polarity of m, otherwise the network
    is shown 1 - m.
    """
    if order == NOISY_FIRST and one_is_missing:
        return x
    noisy, mask, clean = x[:, :CHANNELS], x[:, CHANNELS : CHANNELS + 1], x[:, CHANNELS + 1 :]
    mask = mask if one_is_missing else 1 - mask
    return torch.cat([noisy, mask, clean] if order == NOISY_FIRST else [mask, noisy, clean], 1)


def ordered_guidance(
    null: torch.Tensor, partial: torch.Tensor, full: torch.Tensor, first: float, second: float
) -> torch.Tensor:
    """s(0, 0) + w_1 (s_part - s(0, 0)) + w_2 (s(y, r) - s_part) (JeDi, arXiv 2407.06187, eq. 4), in the form of arXiv
    2211.09800, eq. 3.

    partial: s(0, r), references first, or s(y, 0), text first; first, second: w_1 and w_2. With equal scales it is eq.
    3: classifier-free guidance from null to full.
    """
    return null + first * (partial - null) + second * (full - partial)
