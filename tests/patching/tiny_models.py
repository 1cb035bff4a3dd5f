"""Small random U-Nets of the shapes of SD1.x, SD2 and SDXL, made of ComfyUI's own classes, and their sampling.

Tests import it as `likeness.tests.patching.tiny_models`; the fixtures in this folder's conftest.py cover the common
cases.
"""

from __future__ import annotations

import functools

import comfy.model_patcher
import comfy.sample
import comfy.samplers
import torch
from comfy.model_base import BaseModel
from likeness.benchmarks.fuzz.host_nodes import FAMILIES as MODELS
from likeness.benchmarks.fuzz.host_nodes import configured, patcher_of, random_model

FAMILIES = ("sd1", "sd2", "sdxl")
ONE_LEVEL = "one_level"
"""A network of four blocks, for laws of samplers, schedules and runs, which hold for every network."""
WIDTH_TEXT = 24
WIDTH_POOLED = 8
BLOCKS = {  # attention blocks in call order, as (name, transformers)
    "sd1": [
        *((f"input{n}", 1) for n in (1, 2, 4, 5, 7, 8)),
        ("middle0", 1),
        *((f"output{n}", 1) for n in range(3, 12)),
    ],
    "sdxl": [("input4", 1), ("input5", 1), ("input7", 2), ("input8", 2), ("middle0", 2)]
    + [(f"output{n}", 2) for n in (0, 1, 2)]
    + [(f"output{n}", 1) for n in (3, 4, 5)],
}
BLOCKS["sd2"] = BLOCKS["sd1"]
_SD1 = MODELS["sd1"]
_CLASSES = MODELS | {ONE_LEVEL: _SD1}
_CONFIGS = {family: configured(kind, WIDTH_TEXT, WIDTH_POOLED) for family, kind in MODELS.items()}
_CONFIGS[ONE_LEVEL] = _CONFIGS["sd1"] | {
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
}


def tiny_model(
    family: str = "sd1", dtype: torch.dtype = torch.float32, seed: int = 0, channels: int = 4
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of the family's shape with random weights; v-prediction for sd2, eps-prediction for the others.

    channels: of its input; the host takes 9 for an inpainting model. Equal calls return clones with shared weights, as
    the host's own clones have; another seed is another checkpoint.
    """
    return _loaded_model(family, dtype, seed, channels).clone()


@functools.cache
def _loaded_model(family: str, dtype: torch.dtype, seed: int, channels: int) -> comfy.model_patcher.ModelPatcher:
    return patcher_of(_base_model(family, dtype, seed, channels))


def _base_model(family: str, dtype: torch.dtype, seed: int, channels: int = 4) -> BaseModel:
    return random_model(_CLASSES[family], _CONFIGS[family] | {"in_channels": channels}, seed, dtype)


def conditioning(model: comfy.model_patcher.ModelPatcher, rows: int = 1, tokens: int = 7, seed: int = 1) -> list:
    """CONDITIONING of `rows` different random prompts of `tokens` tokens (one prompt per latent row where rows > 1)."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(rows, tokens, WIDTH_TEXT, generator=generator)
    pooled = torch.randn(rows, WIDTH_POOLED, generator=generator)
    return [[text, {"pooled_output": pooled}]]


def latent(rows: int = 1, height: int = 8, width: int = 8, seed: int = 2) -> dict[str, torch.Tensor]:
    """LATENT of white noise; sizes are in latent pixels."""
    return {"samples": torch.randn(rows, 4, height, width, generator=torch.Generator().manual_seed(seed))}


def run_ksampler(
    model: comfy.model_patcher.ModelPatcher,
    positive: list | None = None,
    negative: list | None = None,
    latent_image: dict | None = None,
    *,
    seed: int = 3,
    steps: int = 3,
    cfg: float = 4.0,
    sampler: str = "euler",
    scheduler: str = "normal",
    denoise: float = 1.0,
    apart: bool = False,
    callback=None,
) -> torch.Tensor:
    """Samples as the KSampler node does.

    apart: makes the host run both sides of guidance in separate calls, as it does if memory is short.
    """
    positive = conditioning(model, seed=10) if positive is None else positive
    negative = conditioning(model, seed=11) if negative is None else negative
    image = (latent() if latent_image is None else latent_image)["samples"]
    if apart:
        model = model.clone()
        model.get_free_memory = lambda device: 0  # pyright: ignore[reportAttributeAccessIssue]
    noise = comfy.sample.prepare_noise(image, seed)
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler,
        scheduler,
        positive,
        negative,
        image,
        denoise=denoise,
        callback=callback,
        disable_pbar=True,
        seed=seed,
    )
