"""Cost of JeDi (arXiv 2407.06187): sampling pictures as a set, as ratios to one by one in the same run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..patching.features.references import NOISED, Reference, References
from ..patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from ..patching.jedi.sampling import sample_set
from ..patching.tinyland import model as tinyland
from .flops import counted_with_peak
from .full_size import SMALLEST, Costs, affordable, costs_of_all
from .networks import Network, full_size_network, tiny_network
from .report import Report, Target
from .timing import CFG, SAMPLER, SCHEDULER, SEED, Variant, compare, plain

SIZES = (1, 2, 4, 8)
_SET = "joint_n4"
TARGETS = {
    f"{_SET}_to_flop_ratio": Target("at most", 1.1),
    f"{_SET}_memory_ratio": Target("at most", 1.1),
}
NOTES = (
    "joint_nN_ratio: N pictures sampled as one set to N plain pictures of the same sampler, one after the other, right "
    "before or after it; *_attention_share: the coupling's share of a set's time, beside 4 pictures in one batch that "
    "are not coupled; joint_reference_price: extra time of one more known member per picture.",
    "joint_nN_flop_ratio: floating-point operations of a set of N relative to those of N plain pictures, of matrix "
    "products, convolutions and attention: what the time ratio would be if all of them took equally long. "
    "joint_n4_to_flop_ratio: the time ratio over it.",
    "joint_nN_memory_ratio: peak tensor memory of a set of N relative to N times a plain run's.",
    "Figures without a prefix are of the U-Net of Stable Diffusion 1.5 with random weights, over one step, at the "
    "largest of 512, 256 and 128 pixels whose rounds fit into the time; full_size_pixels says which.",
)
SECONDS, QUICK_SECONDS = 600.0, 120.0
_STEPS, _FULL_SIZE_STEPS = 10, 1
_RUNS = 120
"""Plain runs that the fewest rounds of a network, its memory and its operations take."""


def run(quick: bool, seconds: float | None = None, weights: Path = tinyland.WEIGHTS) -> Report:
    """Measures within about `seconds`; the fewest rounds may take longer on a slow machine."""
    budget, fewest_rounds = seconds or (QUICK_SECONDS if quick else SECONDS), 1 if quick else 2

    def measured(network: Network, share: float) -> Costs:
        return costs_of(network, share * budget, fewest_rounds)

    return Report("jedi-costs", *costs_of_all(networks(quick, weights, 0.8 * budget), measured), TARGETS, NOTES)


def networks(quick: bool, weights: Path, seconds: float) -> Iterator[tuple[Network, float]]:
    """Yields each network with its share of the time. seconds: for the full-size one, which is made when needed."""
    yield tiny_network(weights, _STEPS), 0.1
    network = full_size_network(SMALLEST, _FULL_SIZE_STEPS)
    yield network if quick else affordable(network, seconds, _RUNS), 0.5


def pictures(network: Network, count: int, references: int = 0, blocks: str = "all"):
    """Samples `count` pictures as one set with `references` known members."""
    widgets = Widgets(
        cfg=CFG,
        guidance="joint",
        image_cfg=CFG,
        strength=1.0,
        blocks=blocks,
        reference_noise="fresh",
        channel_order=AUTOMATIC,
    )
    known = [References((_reference(network, i),)) for i in range(references)]
    guider = joint_guider(
        network.model,
        prompts=[network.positive],
        negative=network.negative,
        references=known,
        captions=[],
        widgets=widgets,
        node="bench",
    )
    latent = {"samples": torch.zeros(count, network.channels, network.side, network.side)}
    return sample_set(
        guider,
        latent,
        pictures=1,
        seeds=[SEED],
        steps=network.steps,
        sampler=SAMPLER,
        scheduler=SCHEDULER,
        denoise=1.0,
        node="bench",
    )


def _reference(network: Network, seed: int) -> Reference:
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(1, network.channels, network.side, network.side, generator=generator)
    return Reference({"samples": samples}, network.positive, NOISED, seed)


def one_by_one(network: Network, count: int) -> None:
    for _ in range(count):
        plain(network, network.model)


def set_variants(network: Network, sizes: tuple[int, ...] | None = None) -> list[Variant]:
    """Sets of several sizes beside as many plain pictures, four pictures not coupled, and one more reference."""

    def beside_plain(name: str, figure: str, count: int, blocks: str = "all") -> Variant:
        return Variant(
            name,
            figure,
            network.model,
            lambda: pictures(network, count, blocks=blocks),
            lambda: one_by_one(network, count),
        )

    priced = Variant(
        "a picture with two references, to one with one",
        "joint_two_references_ratio",
        network.model,
        lambda: pictures(network, 1, 2),
        lambda: pictures(network, 1, 1),
    )
    sets = [beside_plain(f"a set of {n}", f"joint_n{n}_ratio", n) for n in sizes or SIZES]
    return [*sets, beside_plain("4 in one batch, not coupled", "joint_n4_uncoupled_ratio", 4, ""), priced]


def costs_of(network: Network, seconds: float, fewest_rounds: int = 2) -> Costs:
    """Rows and figures of a network: time, memory and operations of sets, and the price of one more reference."""
    timings = compare(set_variants(network), seconds, fewest_rounds)
    figures = {timing.variant.figure: timing.ratio[0] for timing in timings}
    coupled, alone = figures[f"{_SET}_ratio"], figures.pop(f"{_SET}_uncoupled_ratio")
    figures[f"{_SET}_attention_share"] = (coupled - alone) / coupled
    figures["joint_reference_price"] = figures.pop("joint_two_references_ratio") - 1
    figures |= work_and_memory(network)
    figures[f"{_SET}_to_flop_ratio"] = coupled / figures[f"{_SET}_flop_ratio"]
    rows = [timing.row(network) for timing in timings]
    return rows, {f"{network.prefix}{name}": value for name, value in figures.items()}


def work_and_memory(network: Network) -> dict[str, float]:
    """Operations and peak tensor memory of a set of n, as ratios to n times a plain run's."""
    plain(network, network.model)
    work, base = counted_with_peak(lambda: plain(network, network.model))
    figures = {}
    for n in SIZES:
        operations, peak = counted_with_peak(lambda n=n: pictures(network, n))
        figures[f"joint_n{n}_flop_ratio"] = operations / (n * work)
        figures[f"joint_n{n}_memory_ratio"] = peak / (n * base)
    return figures
