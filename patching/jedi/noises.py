"""Names from which the noise of references is seeded: equal on every device, and in any order of the references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..features.references import Reference
from .members import Member

if TYPE_CHECKING:
    import torch


def noise_names(references: Sequence[Reference], members: Sequence[Member]) -> list[str]:
    """A name for each reference: its seed, and its place among those of that seed by the mean of its latent.

    The mean settles the order, not the name, as devices and attention backends differ in its last digits.
    """
    keys = [(item.seed, _mean(member.samples)) for item, member in zip(references, members, strict=True)]
    ordered = sorted(range(len(keys)), key=keys.__getitem__)
    places = {index: place for place, index in enumerate(ordered)}
    first = {seed: min(places[i] for i, key in enumerate(keys) if key[0] == seed) for seed, _ in keys}
    return [f"{seed} {places[index] - first[seed]}" for index, (seed, _) in enumerate(keys)]


def _mean(samples: torch.Tensor) -> float:
    """The mean in double precision, which some devices lack."""
    return samples.float().cpu().double().mean().item()


def level_name(sigma: float) -> str:
    """The noise level in four digits, which devices share unless one rounds up what another rounds down."""
    return f"{sigma:.4g}"
