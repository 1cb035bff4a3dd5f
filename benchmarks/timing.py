"""Times sampling runs in pairs: each beside the run that it is compared to."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher

import nodes as host_nodes

from .networks import Network
from .report import median_interval

CFG, SAMPLER, SCHEDULER, SEED = 5.0, "euler", "normal", 1
MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Variant:
    """One way to sample, what it is compared to, and the figure that their ratio counts for; `first` is the model
    loaded before."""

    name: str
    figure: str
    first: ModelPatcher
    sample: Callable[[], object]
    reference: Callable[[], object]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No progress bars, and no warnings of patches that have no effect: here they are meant to have none."""
    progress, comfy.utils.PROGRESS_BAR_ENABLED = comfy.utils.PROGRESS_BAR_ENABLED, False
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        comfy.utils.PROGRESS_BAR_ENABLED = progress
        logging.disable(disabled)


def plain(network: Network, model, positive: list | None = None, steps: int | None = None, cfg: float = CFG):
    """What the KSampler node does."""
    text = network.positive if positive is None else positive
    return host_nodes.common_ksampler(
        model, SEED, steps or network.steps, cfg, SAMPLER, SCHEDULER, text, network.negative, network.latent
    )


@dataclass(frozen=True)
class Timing:
    """Medians: of the ratio and of the difference of a pair, and of the seconds of the variant and of what it is
    compared to."""

    variant: Variant
    ratio: list[float]
    added: list[float]
    seconds: list[float]
    reference: float

    def row(self, network: Network) -> dict:
        return {"name": f"{network.name}: {self.variant.name}", "ratio": self.ratio, "seconds": self.seconds}


def compare(variants: list[Variant], seconds: float, fewest_rounds: int = 2) -> list[Timing]:
    """Times every variant beside its reference, in rounds until the seconds are spent.

    The two runs of a pair see the same machine, so its drift and its other work cancel out. Which of them goes first
    alternates, and every round has another order of variants.
    """
    for variant in variants:
        timed(variant.first, variant.sample)
    pairs: dict[str, list[tuple[float, float]]] = {v.name: [] for v in variants}
    deadline = time.monotonic() + seconds
    for number in range(MOST_ROUNDS):
        if number >= fewest_rounds and time.monotonic() > deadline:
            break
        for i in np.random.default_rng(number).permutation(len(variants)):
            pairs[variants[i].name].append(timed_pair(variants[i], reference_first=number % 2 == 1))
    return [_timing(v, np.array(pairs[v.name])) for v in variants]


def _timing(variant: Variant, pairs: np.ndarray) -> Timing:
    """pairs: [rounds, 2] seconds of the variant and of what it is compared to."""
    own, reference = pairs.T
    ratio, added, seconds = (median_interval(values) for values in (own / reference, own - reference, own))
    return Timing(variant, ratio, added, seconds, float(np.median(reference)))


def timed_pair(variant: Variant, reference_first: bool) -> tuple[float, float]:
    """Seconds of the variant and of what it is compared to."""
    if reference_first:
        seconds = timed(variant.first, variant.reference)
        return timed(variant.first, variant.sample), seconds
    return timed(variant.first, variant.sample), timed(variant.first, variant.reference)


def timed(first: ModelPatcher, sample: Callable[[], object]) -> float:
    """Seconds of one run, from its first model loaded to its result computed."""
    comfy.model_management.load_models_gpu([first])
    return seconds_of(sample)


def seconds_of(run: Callable[[], object]) -> float:
    """From what the device had to do before, done, to what `run` gives it to do, done."""
    _synchronize()
    started = time.perf_counter()
    run()
    _synchronize()
    return time.perf_counter() - started


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
