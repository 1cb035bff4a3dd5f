"""Cost of Layout-and-Retouch (arXiv 2407.09779) in time and memory, as ratios to plain sampling in the same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..patching.tinyland import model as tinyland
from .flops import counted_with_peak
from .full_size import SMALLEST, Costs, affordable, costs_of_all
from .generate import Settings as Sampling
from .layout_and_retouch_runs import kept_variants, retouch_variants
from .networks import Network, full_size_network, tiny_network
from .report import Report, Target
from .timing import Variant, compare

BATCHED_TO_FLOPS = "retouch_step_batched_to_flop_ratio"
TARGETS = {
    "retouch_step_banked_ratio": Target("at most", 1.05),
    BATCHED_TO_FLOPS: Target("at most", 1.05),
    "whole_ratio": Target("at most", 2.6),
    "whole_kept_ratio": Target("at most", 1.9),
}
NOTES = (
    "ratio: time to a plain run of the same sampler right before or after it. retouch_step_*: reference and mask in "
    "every step, as in the paper; banked: features from earlier runs; batched: the reference and the layout as rows of "
    "the same call; sequential: in calls of their own before it; appended: banked, with keys and values beside the "
    "target's own at a weight of 3.",
    "whole_ratio: layout, inversion of a new reference, the subject's map and mask, and retouch, with the workflow's "
    "settings but for the blocks, which are the paper's; layout, inversion and retouch have one number of steps. "
    "whole_kept_ratio: the same with a reference that earlier runs have inverted and read.",
    "flop_ratio: floating-point operations of a run relative to the plain run's, of matrix products, convolutions and "
    "attention: what the time ratio would be if all of them took equally long. "
    "retouch_step_batched_to_flop_ratio: the time ratio of batched over its flop_ratio.",
    "memory_ratio: peak tensor memory of a run relative to a plain run's.",
    "Figures without a prefix are of the U-Net of Stable Diffusion 1.5 with random weights, at the largest of 512, 256 "
    "and 128 pixels whose rounds fit into the time; full_size_pixels says which.",
)
SECONDS, QUICK_SECONDS = 900.0, 120.0
_RUNS = 75
"""Plain runs that the fewest rounds of a network, its memory and its operations take."""


def run(quick: bool, seconds: float | None = None, weights: Path = tinyland.WEIGHTS) -> Report:
    """Measures within about `seconds`; the fewest rounds may take longer on a slow machine."""
    budget, fewest_rounds = seconds or (QUICK_SECONDS if quick else SECONDS), 1 if quick else 2

    def measured(network: Network, share: float) -> Costs:
        return costs_of(network, share * budget, fewest_rounds)

    return Report(
        "layout-and-retouch-costs", *costs_of_all(networks(quick, weights, 0.8 * budget), measured), TARGETS, NOTES
    )


def networks(quick: bool, weights: Path, seconds: float) -> Iterator[tuple[Network, float]]:
    """Yields each network with its share of the time. seconds: for the full-size one, which is made when needed."""
    yield tiny_network(weights, 10 if quick else Sampling().steps), 0.08
    network = full_size_network(SMALLEST, 2 if quick else 10)
    yield network if quick else affordable(network, seconds, _RUNS), 0.3


def costs_of(network: Network, seconds: float, fewest_rounds: int = 2) -> Costs:
    """Rows and figures of a network: time, memory and operations of every variant, beside a plain run."""
    variants = [*retouch_variants(network), *kept_variants(network)]
    timings = compare(variants, seconds, fewest_rounds)  # fills banks
    figures = {timing.variant.figure: timing.ratio[0] for timing in timings} | work_and_memory(variants)
    figures[BATCHED_TO_FLOPS] = figures["retouch_step_batched_ratio"] / figures["retouch_step_batched_flop_ratio"]
    rows = [timing.row(network) for timing in timings]
    return rows, {f"{network.prefix}{name}": value for name, value in figures.items()}


def work_and_memory(variants: Sequence[Variant]) -> dict[str, float]:
    """Operations and peak tensor memory of each variant, whose banks are full, as ratios to a plain run's."""
    variants[0].reference()  # patches the weights
    work, base = counted_with_peak(variants[0].reference)
    figures = {}
    for variant in variants:
        operations, peak = counted_with_peak(variant.sample)
        figures[variant.figure.replace("_ratio", "_flop_ratio")] = operations / work
        figures[variant.figure.replace("_ratio", "_memory_ratio")] = peak / base
    return figures
