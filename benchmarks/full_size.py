"""The full-size network at a size that fits into the time of a benchmark, and the costs of both networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from .networks import Network
from .timing import plain, seconds_of, silence
from .tinyland import timed

Costs = tuple[list[dict], dict[str, float]]
"""Rows and figures."""

LARGER, SMALLEST = (64, 32), 16
"""Sides in latent pixels."""


def affordable(network: Network, seconds: float, runs: float) -> Network:
    """The network at the largest side at which `runs` plain runs take at most `seconds`, or as it is."""
    with silence():
        for larger in (replace(network, side=side) for side in LARGER):
            _step(larger)
            if runs * network.steps * seconds_of(lambda larger=larger: _step(larger)) <= seconds:
                return larger
    return network


def _step(network: Network) -> None:
    plain(network, network.personalized, network.personalized_positive, steps=1)


def costs_of_all(networks: Iterable[tuple[Network, float]], costs_of: Callable[[Network, float], Costs]) -> Costs:
    """Rows and figures of all networks. costs_of: those of one, for its share of the time."""
    rows, figures = [], {}
    for network, share in networks:
        with silence(), timed(f"costs of {network.name}"):
            found, measured = costs_of(network, share)
        rows += found
        figures |= measured
        if not network.prefix:
            figures["full_size_pixels"] = 8 * network.side
    return rows, figures
