"""Samples a set from one latent and one seed, or from one latent and one seed per picture."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.utils

from ..host.checks import check_latent
from ..host.passes import sample
from .guider import JointGuider

_SEEDS = 1 << 64


def sample_set(
    guider: JointGuider,
    latent: dict,
    *,
    pictures: int,
    seeds: Sequence[int],
    steps: int,
    sampler: str,
    scheduler: str,
    denoise: float,
    node: str,
) -> dict:
    """A LATENT of one picture per prompt.

    latent: one picture that all start from, or one for each; with a single prompt, a batch of any size.
    pictures: the number of prompts.
    seeds: one per picture, or the first picture's, which then counts up.
    Raises ValueError for a latent or seeds of another number.
    """
    check_latent(latent["samples"], node)
    count = len(latent["samples"])
    if pictures > 1 and count not in (1, pictures):
        raise ValueError(
            f"{node}: expected a latent of one picture, or of as many as there are prompts, got {count} for "
            f"{pictures} prompts; set the batch size of the latent to 1."
        )
    count = max(count, pictures)
    if len(seeds) not in (1, count):
        raise ValueError(
            f"{node}: expected one seed, or as many as there are pictures, got {len(seeds)} seeds for {count} "
            "pictures; connect a list of as many seeds as prompts, or a single seed."
        )
    each = [*seeds] if len(seeds) == count else [(seeds[0] + i) % _SEEDS for i in range(count)]
    batch = {**latent, "samples": comfy.utils.repeat_to_batch_size(latent["samples"], count)}
    batch.pop("batch_index", None)  # it would offset the seeds, which are already per picture
    return sample(
        guider,
        batch,
        each,
        steps=steps,
        sampler=sampler,
        scheduler=scheduler,
        denoise=denoise,
        node=node,
    )
