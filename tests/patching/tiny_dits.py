"""Small random diffusion transformers of nine families, made of ComfyUI's own classes, and their sampling.

Tests import it as `likeness.tests.patching.tiny_dits`; the fixture `dit` in this folder's conftest.py runs a test once
per family, and skips by name what an older host lacks.
"""

from __future__ import annotations

import functools

import comfy.model_patcher
import torch
from likeness.benchmarks.fuzz.host_nodes import patcher_of
from likeness.benchmarks.fuzz.host_nodes.transformers import KINDS, WITH_FRAMES, random_transformer
from likeness.patching.host.dit_table import row_of
from likeness.tests.patching import tiny_models

WIDTH_TEXT = 24
WIDTH_POOLED = 8
DITS = tuple(KINDS)


def lacks(family: str) -> bool:
    """True if the host is too old to have the family."""
    return KINDS[family][0] is None


def reachable(family: str) -> bool:
    """False if the host is too old to tell the family's blocks apart."""
    network = tiny_dit(family).model.diffusion_model
    row = row_of(network)
    return row is not None and row.known(network)


def tiny_dit(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of the family with random weights.

    Equal calls return clones with shared weights, as the host's own clones have; another seed is another checkpoint.
    """
    return _loaded_model(family, seed, dtype).clone()


@functools.cache
def _loaded_model(family: str, seed: int, dtype: torch.dtype) -> comfy.model_patcher.ModelPatcher:
    return patcher_of(random_transformer(family, WIDTH_TEXT, WIDTH_POOLED, seed, dtype))


def conditioning(rows: int = 1, tokens: int = 7, seed: int = 1) -> list:
    """CONDITIONING of `rows` different random prompts of `tokens` tokens, the same for every family."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(rows, tokens, WIDTH_TEXT, generator=generator)
    return [[text, {"pooled_output": torch.randn(rows, WIDTH_POOLED, generator=generator)}]]


def latent(family: str, rows: int = 1, height: int = 8, width: int = 8, seed: int = 2) -> dict[str, torch.Tensor]:
    """LATENT of white noise; sizes are in latent pixels, and frames one where the family has them."""
    channels = 128 if family == "flux2" else 16
    samples = torch.randn(rows, channels, height, width, generator=torch.Generator().manual_seed(seed))
    return {"samples": samples.unsqueeze(2) if family in WITH_FRAMES else samples}


def run_ksampler(
    model: comfy.model_patcher.ModelPatcher,
    family: str,
    positive: list | None = None,
    negative: list | None = None,
    latent_image: dict | None = None,
    **settings,
) -> torch.Tensor:
    """Samples as the KSampler node does. settings: of `tiny_models.run_ksampler`."""
    positive = conditioning(seed=10) if positive is None else positive
    negative = conditioning(seed=11) if negative is None else negative
    image = latent(family) if latent_image is None else latent_image
    return tiny_models.run_ksampler(model, positive, negative, image, **{"scheduler": "simple", **settings})
