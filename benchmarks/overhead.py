"""Overhead of every node that patches: whole sampling runs, as a ratio to plain KSampler runs right beside them.

The networks are Tinyland, where fixed costs show, and one of Stable Diffusion 1.5's size with random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch

from ..nodes.step_blended import LikenessStepBlendedGuider, StepBlendedSampler
from ..patching.features.taps import CrossAttentionTap
from ..patching.features.word_maps import word_maps
from ..patching.host.attach import attach
from ..patching.host.families import discover, family_of
from ..patching.host.window import Window
from ..patching.tinyland import model as tinyland
from . import layout_and_retouch_runs, pick_and_draw_runs
from .import_time import import_seconds
from .networks import Network, full_size_network, small_network, tiny_network
from .report import Report, Target
from .timing import CFG, SAMPLER, SCHEDULER, SEED, Variant, compare, plain, silence

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

LEVELS = 4
NEUTRAL = "strength_zero_ratio"
TARGETS = {name: Target("at most", 1.005) for name in (NEUTRAL, f"tinyland_{NEUTRAL}")} | {
    "import_seconds": Target("at most", 0.3)
}
NOTES = (
    "ratio: median over rounds of a node's run to a run of plain KSampler right before or after it, with a 95 % "
    "bootstrap interval; seconds: median of the node's runs. KSampler runs the model that the node starts with.",
    "Each figure is the worst median among its variants. strength_zero_ratio covers the variants that change nothing: "
    "the seconds they add, measured on a network of one level over the same number of steps, relative to those of "
    "the plain run. In a whole run they would be lost in the noise. They do not depend on the network: an idle node "
    "does nothing in its layers.",
    "LikenessAttentionMaps is compared to encoding the prompt and running KSampler at cfg 1 with one step per noise "
    "level. The tap reads every block for both rows of every step, as the patches of the pack do, and discards the "
    "values.",
    "A run starts with its first model loaded. A blended run includes one re-patch of the LoRA in the middle, "
    "independent of the number of steps.",
    "Figures without a prefix are of the full-size network: the U-Net of Stable Diffusion 1.5, 859 M random weights.",
    "import_seconds: median time in which a ComfyUI that has its own modules loads the pack's nodes.",
)


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    rows, figures = [], {"import_seconds": import_seconds(2 if quick else 9)}
    for network, seconds, idle_seconds in networks(quick, weights):
        with silence():
            timings = compare(variants(network), seconds)
            added = compare(idle_variants(small_network(network.steps)), idle_seconds)
        rows += [timing.row(network) for timing in timings]
        idle, acting = ([t for t in timings if (t.variant.figure == NEUTRAL) is wanted] for wanted in (True, False))
        for timing in acting:
            key = f"{network.prefix}{timing.variant.figure}"
            figures[key] = max(figures.get(key, 0.0), timing.ratio[0])
        figures[f"{network.prefix}{NEUTRAL}"] = max(
            1 + extra.added[0] / timing.reference for extra, timing in zip(added, idle, strict=True)
        )
        figures[f"{network.prefix}strength_zero_added_ms"] = 1000 * max(timing.added[0] for timing in added)
    return Report("overhead", rows, figures, TARGETS, NOTES)


def idle_variants(network: Network) -> list[Variant]:
    """Variants that change nothing."""
    return [variant for variant in variants(network) if variant.figure == NEUTRAL]


def networks(quick: bool, weights: Path) -> Iterator[tuple[Network, float, float]]:
    """Yields each network with the seconds to spend on its variants and on its idle variants.

    The large one is built only when needed. A short plain run needs a more precise measurement of the added time.
    """
    yield tiny_network(weights, 10), 40 if quick else 150, 30 if quick else 300
    on_gpu = comfy.model_management.get_torch_device().type != "cpu"
    side, steps = (64, 20) if on_gpu else (16, 3 if quick else 5)
    yield full_size_network(side, steps), 60 if quick else 300, 10 if quick else 60


def variants(network: Network) -> list[Variant]:
    """Variants of every node that patches, active and idle."""
    return [
        *blended_variants(network),
        *attention_variants(network),
        *neutral_variants(network),
        *acting_variants(network),
    ]


def blended_variants(network: Network) -> list[Variant]:
    """Variants of step-blended sampling. With the switch at 0 a run starts with the personalized model."""

    def variant(node: str, sample: Callable, switch: int) -> Variant:
        neutral = switch in (0, network.steps)
        first, text = (
            (network.model, network.positive) if switch else (network.personalized, network.personalized_positive)
        )
        return Variant(
            f"{node}, switch {switch} of {network.steps}",
            NEUTRAL if neutral else "step_blended_ratio",
            first,
            lambda: sample(network, switch),
            lambda: plain(network, first, text),
        )

    for node in (StepBlendedSampler, LikenessStepBlendedGuider):
        node.GET_SCHEMA()  # the host has it once, from when it loads the pack
    fifth, half = max(1, network.steps // 5), max(1, network.steps // 2)
    return [
        *(
            variant("StepBlendedSampler", _blended_sampler, switch)
            for switch in dict.fromkeys((0, fifth, half, network.steps))
        ),
        *(variant("LikenessStepBlendedGuider", _blended_guider, switch) for switch in (0, fifth)),
    ]


def attention_variants(network: Network) -> list[Variant]:
    def tapped(window: Window):
        blocks, family = discover(network.model, "bench"), family_of(network.model, "bench")
        tokens = network.positive[0][0].shape[1]
        return attach(
            network.model,
            CrossAttentionTap("bench", family, blocks, Discard(), window, tokens=(1, 2), prompt_length=tokens),
        )

    def looked_at():
        # The node itself would also write a preview to ComfyUI's temporary folder.
        return word_maps(
            network.model,
            network.clip,
            finished,
            text=network.text,
            word=network.word,
            blocks="all",
            group_by="together",
            window=Window(0.2, 0.8),
            levels=LEVELS,
            seed=SEED,
        )

    def as_many_calls():
        ((text, rest),) = network.clip.encode_from_tokens_scheduled(network.clip.tokenize(network.text))
        return plain(network, network.model, [[text, rest]], steps=LEVELS, cfg=1.0)

    def reference():
        return plain(network, network.model)

    idle, busy = tapped(Window(0.5, 0.5)), tapped(Window())
    finished = {"samples": torch.randn(network.latent["samples"].shape, generator=torch.Generator().manual_seed(SEED))}
    return [
        Variant("tap of all blocks, empty window", NEUTRAL, network.model, lambda: plain(network, idle), reference),
        Variant("tap of all blocks", "attention_tap_ratio", network.model, lambda: plain(network, busy), reference),
        Variant(
            f"LikenessAttentionMaps, {LEVELS} noise levels",
            "attention_maps_ratio",
            network.model,
            looked_at,
            as_many_calls,
        ),
    ]


def neutral_variants(network: Network) -> list[Variant]:
    """Idle variants of the nodes that have a benchmark of their own."""
    retouched = layout_and_retouch_runs.at_strength(network, 0.0)
    guided = pick_and_draw_runs.guided(network, pick_and_draw_runs.settings(network, 1.0, 1.0, step_size=0.0))

    def variant(name: str, model: ModelPatcher) -> Variant:
        return Variant(
            name,
            NEUTRAL,
            network.personalized,
            lambda: plain(network, model, network.personalized_positive),
            lambda: plain(network, network.personalized, network.personalized_positive),
        )

    return [variant("MultiSourceAttnSwap, strength 0", retouched), variant("UREMDGuidance, step size 0", guided)]


def acting_variants(network: Network) -> list[Variant]:
    """Active variants of the same nodes, at every step."""
    return [
        layout_and_retouch_runs.retouch_variants(network)[0],
        pick_and_draw_runs.guided_variants(network)[0],
    ]


class Discard:
    """Sink that keeps nothing."""

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
    run = {
        "latent": network.latent,
        "seed": SEED,
        "steps": network.steps,
        "sampler": SAMPLER,
        "scheduler": SCHEDULER,
        "denoise": 1.0,
    }
    return StepBlendedSampler.execute(**_blend(network, switch), **run)


def _blended_guider(network: Network, switch: int):
    guider = LikenessStepBlendedGuider.execute(**_blend(network, switch)).args[0]
    model, empty = network.model, network.latent["samples"]
    schedule = comfy.samplers.KSampler(model, network.steps, model.load_device, SAMPLER, SCHEDULER)
    noise = comfy.sample.prepare_noise(empty, SEED)
    return guider.sample(
        noise, empty, comfy.samplers.sampler_object(SAMPLER), schedule.sigmas, disable_pbar=True, seed=SEED
    )
