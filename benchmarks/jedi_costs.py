"""Cost of sampling pictures as a set, as ratios to sampling them one by one in the same run."""

from __future__ import annotations

import torch

from ..patching.features.references import NOISED, Reference, References
from ..patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from ..patching.jedi.sampling import sample_set
from .memory import peak_bytes
from .networks import Network
from .timing import CFG, SAMPLER, SCHEDULER, SEED, Variant, compare, plain

SIZES = (1, 2, 4, 8)


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
    latent = {"samples": torch.zeros(count, 4, network.side, network.side)}
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
    samples = torch.randn(1, 4, network.side, network.side, generator=generator)
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


def costs_of(network: Network, seconds: float) -> dict[str, float]:
    """Ratios: time and memory of sets of several sizes, the coupling's share of the time, and the price of one more
    reference."""
    figures = {t.variant.figure: t.ratio[0] for t in compare(set_variants(network), seconds)}
    coupled, alone = figures["joint_n4_ratio"], figures.pop("joint_n4_uncoupled_ratio")
    figures["joint_n4_attention_share"] = (coupled - alone) / coupled
    figures["joint_reference_price"] = figures.pop("joint_two_references_ratio") - 1
    return {f"{network.prefix}{name}": value for name, value in (figures | memory_of(network)).items()}


def memory_of(network: Network) -> dict[str, float]:
    """Peak tensor memory of a set of n, as a ratio to n times a plain run's."""
    plain(network, network.model)
    base = peak_bytes(lambda: plain(network, network.model))
    return {f"joint_n{n}_memory_ratio": peak_bytes(lambda n=n: pictures(network, n)) / (n * base) for n in SIZES}
