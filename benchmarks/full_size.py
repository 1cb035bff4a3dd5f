"""The full-size network at a size that fits into the time of a benchmark."""

from __future__ import annotations

from dataclasses import replace

from .networks import Network
from .timing import plain, seconds_of, silence

LARGER, SMALLEST = (64, 32), 16
"""Sides in latent pixels."""
_GROWTH = 2.2
"""Power of the side with which the time of a run grows."""


def affordable(network: Network, seconds: float, runs: float) -> Network:
    """The network at the largest side at which `runs` plain runs take at most `seconds`, or as it is."""
    with silence():
        plain(network, network.personalized, network.personalized_positive, steps=1)
        took = seconds_of(lambda: plain(network, network.personalized, network.personalized_positive, steps=1))
    fitting = (side for side in LARGER if runs * network.steps * took * (side / network.side) ** _GROWTH <= seconds)
    return replace(network, side=next(fitting, network.side))
