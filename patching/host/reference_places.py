"""Places that the host gives to reference latents of a prompt, which it adds to the sequence by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

_BY_INDEX = ("index", "index_timestep_zero")


class Taken(NamedTuple):
    """Places that pictures of the host have already.

    index: the number of places along the index of pictures, from the target's on. diagonal: tokens to the right of the
    target, of pictures that lie below it and have its index.
    """

    index: int = 0
    diagonal: int = 0

    def joined(self, other: Taken) -> Taken:
        """Places that either of two prompts has taken."""
        return Taken(max(self.index, other.index), max(self.diagonal, other.diagonal))


def nowhere(network: Any, method: str | None, widths: Sequence[int]) -> Taken:
    """The places in a network whose host adds no references, or adds them before the picture.

    method: the prompt's, None for the network's own. widths: of its references, in tokens.
    """
    return Taken()


def of_flux(network: Any, method: str | None, widths: Sequence[int]) -> Taken:
    """The places in Flux: further indices, the first one for all, or the diagonal of the target."""
    method = method or getattr(network.params, "default_ref_method", "offset")
    if method in _BY_INDEX:
        return Taken(len(widths))
    if method == "uxo":
        return Taken(diagonal=sum(widths))
    # The host does not scale this index, which Flux.2 scales for the others.
    return Taken(int(1 // getattr(network.params, "ref_index_scale", 1.0)))


def of_qwen(network: Any, method: str | None, widths: Sequence[int]) -> Taken:
    """The places in Qwen-Image: further indices, those below the target's, or the first one for all."""
    method = method or getattr(network, "default_ref_method", "index")
    if method == "negative_index":
        return Taken()
    return Taken(len(widths) if method in _BY_INDEX else 1)


def of_krea(network: Any, method: str | None, widths: Sequence[int]) -> Taken:
    """The places in Krea 2: further indices, where a method is named at all."""
    return Taken(len(widths) if method or getattr(network, "default_ref_method", None) else 0)
