"""What every node that patches costs: whole sampling runs, as a ratio to runs of plain KSampler right beside them.

On Tinyland, where fixed costs show, and on a network of the size of Stable Diffusion 1.5 with random weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.supported_models
import comfy.utils
import numpy as np
import torch

import nodes as host_nodes

from ..demo.captions import PLACEHOLDER, prompt
from ..demo.subjects import SUBJECTS
from ..nodes.patching import tinyland
from ..nodes.step_blended import LikenessStepBlendedGuider, StepBlendedSampler
from .generate import TextEncoder
from .report import Report, Target, median_interval

FULL_SIZE_CONFIG = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
}
CFG, SAMPLER, SCHEDULER, SEED = 5.0, "euler", "normal", 1
TARGETS = {name: Target("at most", 1.005) for name in ("strength_zero_ratio", "tinyland_strength_zero_ratio")}
NOTES = (
    "ratio: median over rounds of a node's run to a run of plain KSampler right before or after it, with a 95 % bootstrap interval;"
    " seconds: median of the node's runs. KSampler runs the model that the node starts with.",
    "Each figure is the worst median among its variants; strength_zero_ratio takes the variants that change nothing.",
    "A run starts with its first model loaded. A blended run includes the re-patch of the LoRA in the middle, once however many steps.",
    "Figures without a prefix are of the full-size network: the U-Net of Stable Diffusion 1.5, 859 M random weights.",
)
MOST_ROUNDS = 200


@dataclass(frozen=True)
class Network:
    """A vanilla model, the same with a LoRA, their prompts, and the run that is timed."""

    name: str
    prefix: str
    model: comfy.model_patcher.ModelPatcher
    personalized: comfy.model_patcher.ModelPatcher
    positive: list
    personalized_positive: list
    negative: list
    side: int
    steps: int

    @property
    def latent(self) -> dict[str, torch.Tensor]:
        return {"samples": torch.zeros(1, 4, self.side, self.side)}


@dataclass(frozen=True)
class Variant:
    """One way to sample, and the figure that its ratio counts for; `first`, its first model, is what KSampler runs beside it."""

    name: str
    figure: str
    first: comfy.model_patcher.ModelPatcher
    sample: Callable[[], object]


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    progress, comfy.utils.PROGRESS_BAR_ENABLED = comfy.utils.PROGRESS_BAR_ENABLED, False
    try:
        rows, figures = [], {}
        for network, seconds in networks(quick, weights):
            timings = compare(network, variants(network), seconds)
            rows += [timing.row(network) for timing in timings]
            for timing in timings:
                key = f"{network.prefix}{timing.variant.figure}"
                figures[key] = max(figures.get(key, 0.0), timing.ratio[0])
    finally:
        comfy.utils.PROGRESS_BAR_ENABLED = progress
    return Report("overhead", rows, figures, TARGETS, NOTES)


def networks(quick: bool, weights: Path) -> Iterator[tuple[Network, float]]:
    """Each network with the seconds to spend on it, one at a time: the large one is built when it is needed."""
    yield tiny_network(weights, 10), 40 if quick else 600
    on_gpu = comfy.model_management.get_torch_device().type != "cpu"
    side, steps = (64, 20) if on_gpu else (16, 3 if quick else 5)
    yield full_size_network(side, steps), 60 if quick else 1200


def tiny_network(weights: Path, steps: int) -> Network:
    model, clip, _ = tinyland.load(weights)
    subject = next(iter(SUBJECTS.values()))
    tensors, _ = tinyland.read_weights(weights / "subjects" / f"{subject.name}.safetensors", "tinyland_subject")
    personalized, _ = comfy.sd.load_lora_for_models(model, clip, tensors, 1.0, 0.0)
    assert personalized is not None
    encode, kind = TextEncoder(clip), subject.subject.name
    vanilla, placed = prompt(kind, "city"), prompt(kind, "city", placeholder=PLACEHOLDER)
    return Network("Tinyland", "tinyland_", model, personalized, encode([vanilla]), encode([placed]), encode([""]), 16, steps)


def full_size_network(side: int, steps: int) -> Network:
    """A U-Net of Stable Diffusion 1.5's shape; random weights take as long as trained ones."""
    device = comfy.model_management.get_torch_device()
    config = comfy.supported_models.SD15(FULL_SIZE_CONFIG)
    # On a CPU bfloat16 is the smallest type that every layer computes in, and more than twice as fast as float32.
    config.set_inference_dtype(torch.bfloat16 if device.type == "cpu" else torch.float16, None)
    base = config.get_model({}, "", device=comfy.model_management.unet_offload_device())
    for name, weight in base.diffusion_model.named_parameters():
        if weight.ndim > 1:
            weight.data.uniform_(-0.03, 0.03)
        else:
            weight.data.fill_(float(name.endswith("weight")))
    model = comfy.model_patcher.CoreModelPatcher(base, load_device=device, offload_device=comfy.model_management.unet_offload_device())
    personalized, _ = comfy.sd.load_lora_for_models(model, None, random_lora(base.diffusion_model), 1.0, 0.0)
    assert personalized is not None
    vanilla, placed, empty = ([[torch.randn(1, 77, FULL_SIZE_CONFIG["context_dim"]), {}]] for _ in range(3))
    return Network("SD 1.5 size", "", model, personalized, vanilla, placed, empty, side, steps)


def random_lora(unet: torch.nn.Module, rank: int = 16) -> dict[str, torch.Tensor]:
    """A LoRA over the attention projections, as subject LoRAs usually are."""
    tensors = {}
    for path, weight in unet.named_parameters():
        if ".attn" in path and weight.ndim == 2:
            key = f"diffusion_model.{path.removesuffix('.weight')}"
            tensors[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], rank) * 0.01
            tensors[f"{key}.lora_down.weight"] = torch.randn(rank, weight.shape[1]) * 0.01
    return tensors


def variants(network: Network) -> list[Variant]:
    """Every node that patches, where it works and where it has to change nothing."""
    steps, blended, neutral = network.steps, "step_blended_ratio", "strength_zero_ratio"
    switches = {0: neutral, max(1, steps // 5): blended, max(1, steps // 2): blended, steps: neutral}
    out = []
    for switch, figure in switches.items():
        first = network.model if switch else network.personalized
        out.append(Variant(f"StepBlendedSampler, switch {switch} of {steps}", figure, first, lambda s=switch: _blended_sampler(network, s)))
    for switch, figure in ((0, neutral), (max(1, steps // 5), blended)):
        first = network.model if switch else network.personalized
        name = f"LikenessStepBlendedGuider, switch {switch} of {steps}"
        out.append(Variant(name, figure, first, lambda s=switch: _blended_guider(network, s)))
    return out


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


def compare(network: Network, variants: list[Variant], seconds: float, fewest_rounds: int = 2) -> list[Timing]:
    """Times every variant beside KSampler, in rounds until the seconds are spent.

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
            own, reference = timed_pair(network, variants[i], reference_first=number % 2 == 1)
            ratios[variants[i].name].append(own / reference)
            times[variants[i].name].append(own)
    return [Timing(v, median_interval(ratios[v.name]), median_interval(times[v.name])) for v in variants]


def timed_pair(network: Network, variant: Variant, reference_first: bool) -> tuple[float, float]:
    """Seconds of the variant and of KSampler with the variant's first model."""

    def reference():
        return plain(network, variant.first)

    if reference_first:
        seconds = timed(variant.first, reference)
        return timed(variant.first, variant.sample), seconds
    return timed(variant.first, variant.sample), timed(variant.first, reference)


def plain(network: Network, model: comfy.model_patcher.ModelPatcher):
    """What the KSampler node does."""
    positive = network.positive if model is network.model else network.personalized_positive
    return host_nodes.common_ksampler(model, SEED, network.steps, CFG, SAMPLER, SCHEDULER, positive, network.negative, network.latent)


def timed(first: comfy.model_patcher.ModelPatcher, sample: Callable[[], object]) -> float:
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
