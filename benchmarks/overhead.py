"""What every node that patches costs: whole sampling runs, as a ratio to runs of plain KSampler right beside them.

On Tinyland, where fixed costs show, and on a network of the size of Stable Diffusion 1.5 with random weights.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher

import nodes as host_nodes

from ..nodes.patching import tinyland
from ..nodes.patching.families import discover, family_of
from ..nodes.patching.run_state import attach
from ..nodes.patching.taps import CrossAttentionTap
from ..nodes.patching.window import Window
from ..nodes.patching.word_maps import word_maps
from ..nodes.step_blended import LikenessStepBlendedGuider, StepBlendedSampler
from .networks import Network, full_size_network, tiny_network
from .report import Report, Target, median_interval

CFG, SAMPLER, SCHEDULER, SEED = 5.0, "euler", "normal", 1
LEVELS = 4
TARGETS = {name: Target("at most", 1.005) for name in ("strength_zero_ratio", "tinyland_strength_zero_ratio")}
NOTES = (
    "ratio: median over rounds of a node's run to a run of plain KSampler right before or after it, with a 95 % bootstrap interval;"
    " seconds: median of the node's runs. KSampler runs the model that the node starts with.",
    "Each figure is the worst median among its variants; strength_zero_ratio takes the variants that change nothing.",
    "LikenessAttentionMaps is compared to encoding the prompt and KSampler with as many steps as it looks at noise levels, at cfg 1;"
    " a tap reads every block of both rows of every step, as the patches of the pack do, and throws away what it reads.",
    "A run starts with its first model loaded. A blended run includes the re-patch of the LoRA in the middle, once however many steps.",
    "Figures without a prefix are of the full-size network: the U-Net of Stable Diffusion 1.5, 859 M random weights.",
)
MOST_ROUNDS = 200


@dataclass(frozen=True)
class Variant:
    """One way to sample, what it is compared to, and the figure that their ratio counts for; `first` is the model loaded before."""

    name: str
    figure: str
    first: ModelPatcher
    sample: Callable[[], object]
    reference: Callable[[], object]


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    rows, figures = [], {}
    for network, seconds in networks(quick, weights):
        with silence():
            timings = compare(variants(network), seconds)
        rows += [timing.row(network) for timing in timings]
        for timing in timings:
            key = f"{network.prefix}{timing.variant.figure}"
            figures[key] = max(figures.get(key, 0.0), timing.ratio[0])
    return Report("overhead", rows, figures, TARGETS, NOTES)


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


def networks(quick: bool, weights: Path) -> Iterator[tuple[Network, float]]:
    """Each network with the seconds to spend on it, one at a time: the large one is built when it is needed."""
    yield tiny_network(weights, 10), 40 if quick else 150
    on_gpu = comfy.model_management.get_torch_device().type != "cpu"
    side, steps = (64, 20) if on_gpu else (16, 3 if quick else 5)
    yield full_size_network(side, steps), 60 if quick else 300


def plain(network: Network, model, positive: list | None = None, steps: int | None = None, cfg: float = CFG):
    """What the KSampler node does."""
    text = network.positive if positive is None else positive
    return host_nodes.common_ksampler(model, SEED, steps or network.steps, cfg, SAMPLER, SCHEDULER, text, network.negative, network.latent)


def variants(network: Network) -> list[Variant]:
    """Every node that patches, where it works and where it has to change nothing."""
    return [*blended_variants(network), *attention_variants(network)]


def blended_variants(network: Network) -> list[Variant]:
    """The blended runs begin with the personalised model where the switch is at 0."""

    def variant(node: str, sample: Callable, switch: int) -> Variant:
        neutral = switch in (0, network.steps)
        first, text = (network.model, network.positive) if switch else (network.personalized, network.personalized_positive)
        return Variant(
            f"{node}, switch {switch} of {network.steps}",
            "strength_zero_ratio" if neutral else "step_blended_ratio",
            first,
            lambda: sample(network, switch),
            lambda: plain(network, first, text),
        )

    fifth, half = max(1, network.steps // 5), max(1, network.steps // 2)
    return [
        *(variant("StepBlendedSampler", _blended_sampler, switch) for switch in dict.fromkeys((0, fifth, half, network.steps))),
        *(variant("LikenessStepBlendedGuider", _blended_guider, switch) for switch in (0, fifth)),
    ]


def attention_variants(network: Network) -> list[Variant]:
    def tapped(window: Window):
        blocks, family = discover(network.model, "bench"), family_of(network.model, "bench")
        tokens = network.positive[0][0].shape[1]
        return attach(network.model, CrossAttentionTap("bench", family, blocks, Discard(), window, tokens=(1, 2), prompt_length=tokens))

    def looked_at():
        # The node itself would also write its preview to ComfyUI's temporary folder.
        return word_maps(
            network.model, network.clip, finished, network.text, network.word, "all", "together", Window(0.2, 0.8), LEVELS, SEED
        )

    def as_many_calls():
        ((text, rest),) = network.clip.encode_from_tokens_scheduled(network.clip.tokenize(network.text))
        return plain(network, network.model, [[text, rest]], steps=LEVELS, cfg=1.0)

    def reference():
        return plain(network, network.model)

    idle, busy = tapped(Window(0.5, 0.5)), tapped(Window())
    finished = {"samples": torch.randn(network.latent["samples"].shape, generator=torch.Generator().manual_seed(SEED))}
    return [
        Variant("tap of all blocks, empty window", "strength_zero_ratio", network.model, lambda: plain(network, idle), reference),
        Variant("tap of all blocks", "attention_tap_ratio", network.model, lambda: plain(network, busy), reference),
        Variant(f"LikenessAttentionMaps, {LEVELS} noise levels", "attention_maps_ratio", network.model, looked_at, as_many_calls),
    ]


class Discard:
    """A sink that keeps nothing."""

    def record(self, call, layer, values, size) -> None: ...


def _blend(network: Network, switch: int) -> dict:
    return {
        "model": network.model,
        "personalized_model": network.personalized,
        "positive": network.positive,
        "personalized_positive": network.personalized_positive,
        "negative": network.negative,
        "cfg": CFG,
        "switch_by": "step",
        "switch_step": switch,
        "switch_percent": 0.0,
    }


def _blended_sampler(network: Network, switch: int):
    run = {"latent": network.latent, "seed": SEED, "steps": network.steps, "sampler": SAMPLER, "scheduler": SCHEDULER, "denoise": 1.0}
    return StepBlendedSampler.execute(**_blend(network, switch), **run)


def _blended_guider(network: Network, switch: int):
    guider = LikenessStepBlendedGuider.execute(**_blend(network, switch)).args[0]
    model, empty = network.model, network.latent["samples"]
    schedule = comfy.samplers.KSampler(model, network.steps, model.load_device, SAMPLER, SCHEDULER)
    noise = comfy.sample.prepare_noise(empty, SEED)
    return guider.sample(noise, empty, comfy.samplers.sampler_object(SAMPLER), schedule.sigmas, disable_pbar=True, seed=SEED)


@dataclass(frozen=True)
class Timing:
    variant: Variant
    ratio: list[float]
    seconds: list[float]

    def row(self, network: Network) -> dict:
        return {"name": f"{network.name}: {self.variant.name}", "ratio": self.ratio, "seconds": self.seconds}


def compare(variants: list[Variant], seconds: float, fewest_rounds: int = 2) -> list[Timing]:
    """Times every variant beside its reference, in rounds until the seconds are spent.

    The two runs of a pair see the same machine, so its drift and its other work cancel out. Which of them goes first alternates,
    and every round has another order of variants.
    """
    for variant in variants:
        timed(variant.first, variant.sample)
    ratios: dict[str, list[float]] = {v.name: [] for v in variants}
    times: dict[str, list[float]] = {v.name: [] for v in variants}
    deadline = time.monotonic() + seconds
    for number in range(MOST_ROUNDS):
        if number >= fewest_rounds and time.monotonic() > deadline:
            break
        for i in np.random.default_rng(number).permutation(len(variants)):
            own, reference = timed_pair(variants[i], reference_first=number % 2 == 1)
            ratios[variants[i].name].append(own / reference)
            times[variants[i].name].append(own)
    return [Timing(v, median_interval(ratios[v.name]), median_interval(times[v.name])) for v in variants]


def timed_pair(variant: Variant, reference_first: bool) -> tuple[float, float]:
    """Seconds of the variant and of what it is compared to."""
    if reference_first:
        seconds = timed(variant.first, variant.reference)
        return timed(variant.first, variant.sample), seconds
    return timed(variant.first, variant.sample), timed(variant.first, variant.reference)


def timed(first: ModelPatcher, sample: Callable[[], object]) -> float:
    """Seconds of one run, from its first model loaded to its result computed."""
    comfy.model_management.load_models_gpu([first])
    _synchronize()
    started = time.perf_counter()
    sample()
    _synchronize()
    return time.perf_counter() - started


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
