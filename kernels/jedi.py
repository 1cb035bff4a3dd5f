"""JeDi (arXiv 2407.06187): pictures of one subject that are denoised together, with some of them given."""

# Torch's own annotations are incomplete.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(q [rows, n, width], k and v [rows, m, width]) -> [rows, n, width]"""

CHANNELS = 4
MASK_FIRST, NOISY_FIRST = "mask, noisy, clean", "noisy, mask, clean"
ORDERS = (MASK_FIRST, NOISY_FIRST)
"""Orders of a checkpoint's nine input channels: the paper's (supplement, section 6) and that of inpainting models."""


def set_to_sequence(hidden: torch.Tensor, members: int) -> torch.Tensor:
    """The reshape before coupled self-attention (JeDi, arXiv 2407.06187, section 3.2): a set as one long sequence.

    hidden: [sets * members, n, width], the members of a set one after the other. Returns [sets, members * n, width].
    """
    return hidden.unflatten(0, (-1, members)).flatten(1, 2)


def sequence_to_set(hidden: torch.Tensor, members: int) -> torch.Tensor:
    """The reshape after coupled self-attention (JeDi, arXiv 2407.06187, section 3.2), inverse of `set_to_sequence`.

    hidden: [sets, members * n, width]. Returns [sets * members, n, width].
    """
    return hidden.unflatten(1, (members, -1)).flatten(0, 1)


def coupled_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    members: int,
    attention: Attention,
    *,
    strength: float = 1.0,
    visible: Sequence[torch.Tensor | None] | None = None,
    apart: bool = False,
) -> torch.Tensor:
    """Self-attention over all pictures of a set (JeDi, arXiv 2407.06187, section 3.2), in no order.

    q, k, v: [sets * members, n, width].
    strength: interpolates the outputs from uncoupled attention, 0, to the paper's, 1.
    visible: per member, the indices of the tokens that other members attend to, None for all. A member always attends
        to all of its own tokens.
    apart: calls `attention` for each member's queries, with its own tokens as the first keys. The result is the same.
    Returns [sets * members, n, width]. A set of one member gives plain attention.
    """
    if members == 1 or strength == 0:
        return attention(q, k, v)
    if not apart and (visible is None or all(tokens is None for tokens in visible)):
        flat = (set_to_sequence(x, members) for x in (q, k, v))
        coupled = sequence_to_set(attention(*flat), members)
    else:
        coupled = _masked(q, k, v, members, attention, visible=visible or [None] * members, own_first=apart)
    return coupled if strength == 1 else torch.lerp(attention(q, k, v), coupled, strength)


def _masked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    members: int,
    attention: Attention,
    visible: Sequence[torch.Tensor | None],
    own_first: bool,
) -> torch.Tensor:
    queries, keys, values = (x.unflatten(0, (-1, members)) for x in (q, k, v))

    def seen_by(i: int, projected: torch.Tensor) -> torch.Tensor:
        parts = [
            projected[:, j] if j == i or tokens is None else projected[:, j, tokens] for j, tokens in enumerate(visible)
        ]
        return torch.cat([parts[i], *parts[:i], *parts[i + 1 :]] if own_first else parts, 1)

    outputs = [attention(queries[:, i], seen_by(i, keys), seen_by(i, values)) for i in range(members)]
    return torch.stack(outputs, 1).flatten(0, 1)


def coupled_pictures(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    members: int,
    attention: Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    picture: int,
    shared: torch.Tensor | None = None,
    visible: Sequence[torch.Tensor | None] | None = None,
) -> torch.Tensor:
    """Coupled self-attention (JeDi, arXiv 2407.06187, section 3.2) where picture and prompt are one sequence.

    A picture attends to its own sequence and to the other pictures' tokens, never to their prompts.
    q, k, v: [sets * members, n, width], the picture's tokens first. attention: over (member, q, k, v), own keys first.
    picture: number of the picture's tokens. shared: their keys as other members see them, [sets * members, picture,
    width], by default k's. visible: see `coupled_attention`.
    Returns the pictures' rows, [sets * members, picture, width].
    """
    keys = k[:, :picture] if shared is None else shared
    chosen = visible or [None] * members

    def lent(projected: torch.Tensor, j: int) -> torch.Tensor:
        own, tokens = projected[j::members, :picture], chosen[j]
        return own if tokens is None else own[:, tokens]

    outputs: list[torch.Tensor] = []
    for i in range(members):
        others = [j for j in range(members) if j != i]
        seen = torch.cat([k[i::members], *(lent(keys, j) for j in others)], 1)
        values = torch.cat([v[i::members], *(lent(v, j) for j in others)], 1)
        outputs.append(attention(i, q[i::members, :picture], seen, values))
    return torch.stack(outputs, 1).flatten(0, 1)


def given_channels(clean: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
    """The network's extra input channels, cat[m, x_0 (1 - m)] (JeDi, arXiv 2407.06187, supplement, section 6).

    clean: [rows, 4, height, width] clean latents.
    missing: [rows], 1 for a picture to generate and 0 for a given one. The polarity follows from the formula; the
        paper does not state it in words.
    Returns [rows, 5, height, width].
    """
    mask = missing.to(clean).view(-1, 1, 1, 1)
    return torch.cat([mask.expand(-1, 1, *clean.shape[2:]), clean * (1 - mask)], 1)


def noisy_first(order: str) -> tuple[int, ...]:
    """The permutation of a checkpoint's input channels to [noisy latent, `given_channels`].

    order: one of ORDERS. Returns 9 channel indices. Raises ValueError for another order.
    """
    noisy, rest = tuple(range(CHANNELS)), tuple(range(CHANNELS + 1, 2 * CHANNELS + 1))
    if order == NOISY_FIRST:
        return (*noisy, CHANNELS, *rest)
    if order == MASK_FIRST:
        return (*(1 + i for i in noisy), 0, *rest)
    raise ValueError(f"noisy_first: expected one of {', '.join(ORDERS)}, got {order}.")


def arranged(x: torch.Tensor, order: str, one_is_missing: bool = True) -> torch.Tensor:
    """Reorders cat[noisy, m, x_0 (1 - m)] for a checkpoint (JeDi, arXiv 2407.06187, supplement, section 6).

    x: [rows, 9, height, width], the inverse of the permutation `noisy_first(order)` is applied.
    order: one of ORDERS. one_is_missing: keeps the paper's polarity of m; otherwise the network gets 1 - m.
    Returns [rows, 9, height, width].
    """
    if order == NOISY_FIRST and one_is_missing:
        return x
    noisy, mask, clean = x[:, :CHANNELS], x[:, CHANNELS : CHANNELS + 1], x[:, CHANNELS + 1 :]
    mask = mask if one_is_missing else 1 - mask
    return torch.cat([noisy, mask, clean] if order == NOISY_FIRST else [mask, noisy, clean], 1)


def ordered_guidance(
    null: torch.Tensor, partial: torch.Tensor, full: torch.Tensor, first: float, second: float
) -> torch.Tensor:
    """Equations 3 and 4 of JeDi (arXiv 2407.06187): guidance with separate scales for text and references.

    s(0, 0) + w_1 (s_part - s(0, 0)) + w_2 (s(y, r) - s_part), in the form of arXiv 2211.09800, eq. 3.
    null: s(0, 0). full: s(y, r). first, second: w_1 and w_2.
    partial: s(0, r), references first, or s(y, 0), text first.
    All tensors have one shape, which is also returned. Equal scales give eq. 3, classifier-free guidance.

    The names here say what the partial pass keeps. The paper's text gives s(0, r) the name "text first". Its table 6
    contradicts that, with the higher image similarity for "text first".
    """
    return null + first * (partial - null) + second * (full - partial)
