"""Timing of sampling runs in pairs, each beside the run that it is compared to."""

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
    """Way to sample with its reference run and the figure that their ratio counts for; `first` is the model loaded
    first."""

    name: str
    figure: str
    first: ModelPatcher
    sample: Callable[[], object]
    reference: Callable[[], object]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Hides progress bars, and the warnings of patches that have no effect, which these runs intend."""
    progress, comfy.utils.PROGRESS_BAR_ENABLED = comfy.utils.PROGRESS_BAR_ENABLED, False
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        comfy.utils.PROGRESS_BAR_ENABLED = progress
        logging.disable(disabled)


def plain(
    network: Network, model: ModelPatcher, positive: list | None = None, steps: int | None = None, cfg: float = CFG
):
    """Runs what the KSampler node runs."""
    text = network.positive if positive is None else positive
    return host_nodes.common_ksampler(
        model, SEED, steps or network.steps, cfg, SAMPLER, SCHEDULER, text, network.negative, network.latent
    )


@dataclass(frozen=True)
class Timing:
    """Medians of a pair: ratio, difference, the variant's seconds, and the reference's seconds."""

    variant: Variant
    ratio: list[float]
    added: list[float]
    seconds: list[float]
    reference: float

    def row(self, network: Network) -> dict:
        return {"name": f"{network.name}: {self.variant.name}", "ratio": self.ratio, "seconds": self.seconds}


def compare(variants: list[Variant], seconds: float, fewest_rounds: int = 2) -> list[Timing]:
    """Times every variant beside its reference, in rounds until the seconds are spent.

    Both runs of a pair share the machine's state, so drift and background load cancel out. The order within a pair
    alternates, and every round shuffles the variants.
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
    """Summarizes pairs [rounds, 2]: seconds of the variant and of its reference."""
    own, reference = pairs.T
    ratio, added, seconds = (median_interval(values) for values in (own / reference, own - reference, own))
    return Timing(variant, ratio, added, seconds, float(np.median(reference)))


def timed_pair(variant: Variant, reference_first: bool) -> tuple[float, float]:
    """Times a pair: seconds of the variant and of its reference."""
    if reference_first:
        seconds = timed(variant.first, variant.reference)
        return timed(variant.first, variant.sample), seconds
    return timed(variant.first, variant.sample), timed(variant.first, variant.reference)


def timed(first: ModelPatcher, sample: Callable[[], object]) -> float:
    """Seconds of one run, from its first model loaded to its result computed."""
    comfy.model_management.load_models_gpu([first])
    return seconds_of(sample)


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds from an idle device to the end of the work that `run` queues on it."""
    _synchronize()
    started = time.perf_counter()
    run()
    _synchronize()
    return time.perf_counter() - started


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
