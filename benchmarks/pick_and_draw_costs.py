"""Cost of Pick-and-Draw (arXiv 2401.16762) in time, beside plain sampling and plain autograd, and of its distance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..patching.tinyland import model as tinyland
from .full_size import SMALLEST, affordable
from .networks import NARROW_CONFIG, Network, full_size_network, random_network, tiny_network
from .pick_and_draw_runs import autograd_variants, guided_variants, shortened_variants
from .report import Report, Target
from .timing import Timing, compare, silence
from .tinyland import timed
from .uremd_costs import SIZES, uremd_costs

LAUNCH_BOUND = "launch_bound_"
TARGETS = {
    "guided_step_ratio": Target("at most", 2.0),
    "guided_all_maps_step_ratio": Target("at most", 2.5),
    "guided_every_second_ratio": Target("at most", 2.0),
    "guided_whole_ratio": Target("at most", 2.8),
    **{f"{prefix}guided_to_autograd_ratio": Target("at most", 1.0) for prefix in ("", "tinyland_", LAUNCH_BOUND)},
    "uremd_memory_ratio_4096": Target("at least", 5.0),
    **{f"uremd_matmul_ratio_{tokens}": Target("at most", 2.0) for tokens in SIZES},
    "uremd_speedup_gpu": Target("at least", 3.0),
}
NOTES = (
    "guided_step_ratio: a run whose every step is guided by both losses to a plain run of the same sampler right "
    "before or after it; palette from the decoder's middle resolution, maps from all of its resolutions but the "
    "finest, before which a gradient pass stops; all_maps: with those of every layer, as in the paper; "
    "guided_whole_ratio: template, inversion and features of a new reference, and a run guided with the nodes' "
    "default windows and blocks, all of one number of steps; maps_alone: with a template that ends with its window, as "
    "Likeness Sampler's, which shows no picture of it.",
    "guided_to_autograd_ratio: a run whose every step is guided by both losses to one with the same losses by plain "
    "autograd, through the whole of a copy of the network with ordinary weights. launch_bound: all blocks of Stable "
    "Diffusion 1.5, a tenth as wide, on a picture of 64 pixels.",
    "Figures without a prefix are of the U-Net of Stable Diffusion 1.5 with random weights, at the largest of 512, 256 "
    "and 128 pixels whose rounds fit into the time; full_size_pixels says which.",
)
SECONDS, QUICK_SECONDS = 3600.0, 120.0
_STEPS = 25
"""Steps of the small networks' runs, as the nodes' default; a run computes the model's identity once."""
_RUNS = 60
"""Plain runs that the fewest rounds of a network take."""


def run(quick: bool, seconds: float | None = None, weights: Path = tinyland.WEIGHTS) -> Report:
    """Measures within about `seconds`; the fewest rounds may take longer on a slow machine."""
    budget, rows, figures = seconds or (QUICK_SECONDS if quick else SECONDS), [], {}
    for network, share in networks(quick, weights, 0.7 * budget):
        with silence(), timed(f"costs of {network.name}"):
            timings = times(network, share * budget, 1 if quick else 2)
            rows += [timing.row(network) for timing in timings]
            figures |= {f"{network.prefix}{timing.variant.figure}": timing.ratio[0] for timing in timings}
            if not network.prefix:
                figures["full_size_pixels"] = 8 * network.side
    with timed("costs of the distance"):
        figures |= uremd_costs(quick)
    return Report("pick-and-draw-costs", rows, figures, TARGETS, NOTES)


def networks(quick: bool, weights: Path, seconds: float) -> Iterator[tuple[Network, float]]:
    """Yields each network with its share of the time. seconds: for the full-size one, which is made when needed."""
    yield tiny_network(weights, _STEPS), 0.1
    yield random_network("launch-bound", LAUNCH_BOUND, NARROW_CONFIG, torch.float32, 8, _STEPS), 0.05
    network = full_size_network(SMALLEST, 2 if quick else 10)
    yield network if quick else affordable(network, seconds, _RUNS), 0.4


def times(network: Network, seconds: float, fewest_rounds: int = 2) -> list[Timing]:
    """Times of a network's variants."""
    variants = autograd_variants(network)
    if network.prefix != LAUNCH_BOUND:
        variants = [*guided_variants(network), *shortened_variants(network), *variants]
    return compare(variants, seconds, fewest_rounds)
