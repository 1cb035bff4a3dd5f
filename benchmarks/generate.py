"""Samples many pictures in one process with ComfyUI's own objects: KSampler's result for each seed, but in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import comfy.sample
import comfy.samplers
import numpy as np
import torch
from comfy.samplers import CFGGuider

from ..demo.precision import fast_dtype

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

BATCH = 16
LATENT_SCALE = 8
DTYPE = fast_dtype()
"""Dtype of the denoiser in the long comparisons: bfloat16 where it is fast, as it is closer to what GPUs run."""
PRECISION = str(DTYPE).removeprefix("torch.")

Prompt = TypeVar("Prompt")


@dataclass(frozen=True)
class Settings:
    """Widgets of KSampler; `size` is the height and width of the picture in pixels.

    The sampler must be deterministic: an ancestral one draws noise that depends on the rest of the batch.
    """

    steps: int = 25
    cfg: float = 4.0
    sampler: str = "euler"
    scheduler: str = "normal"
    size: int = 128


class TextEncoder:
    """Encoder of prompts into a CONDITIONING with one row per prompt; each distinct text is encoded once."""

    def __init__(self, clip: CLIP):
        self.clip = clip
        self._encoded: dict[str, list] = {}

    def __call__(self, texts: Sequence[str]) -> list:
        """Encodes a batch: [[features [n, tokens, width], {"pooled_output": [n, width]}]]. Raises ValueError if token
        counts differ."""
        entries = [self._encode(text) for text in texts]
        features, pooled = [e[0] for e in entries], [e[1].get("pooled_output") for e in entries]
        if len({f.shape for f in features}) != 1:
            counts = sorted({f.shape[1] for f in features})
            raise ValueError(
                f"expected prompts with one number of tokens in a batch, got {counts}; shorten the longest prompt"
            )
        return [[torch.cat(features), {} if pooled[0] is None else {"pooled_output": torch.cat(pooled)}]]

    def _encode(self, text: str) -> list:
        if text not in self._encoded:
            ((features, rest),) = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
            self._encoded[text] = [features, rest]
        return self._encoded[text]


def plain(model: ModelPatcher, encode: TextEncoder, settings: Settings) -> Callable[[Sequence[str]], CFGGuider]:
    """Makes the function from the texts of a batch to KSampler's guider; `model` may carry any patch."""

    def guide(texts: Sequence[str]) -> CFGGuider:
        guider = CFGGuider(model)
        guider.set_conds(encode(texts), encode([""]))
        guider.set_cfg(settings.cfg)
        return guider

    return guide


def pictures(
    guide: Callable[[Sequence[Prompt]], CFGGuider],
    vae: VAE,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    settings: Settings,
) -> np.ndarray:
    """Pictures [n, size, size, 3] uint8, one per prompt and seed, independent of the rest of the batch."""
    parts = [slice(start, start + BATCH) for start in range(0, len(prompts), BATCH)]
    return np.concatenate([decode(vae, latents(guide(prompts[p]), seeds[p], settings)) for p in parts])


def latents(
    guider: CFGGuider,
    seeds: Sequence[int],
    settings: Settings,
    known: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """[n, channels, h, w] samples; row i starts from the noise that KSampler draws for seeds[i] alone.

    known, mask: latents that stay where the mask [n, 1, height, width] is 0, as with Set Latent Noise Mask.
    """
    model = guider.model_patcher
    side = settings.size // LATENT_SCALE
    empty = torch.zeros(1, model.model.latent_format.latent_channels, side, side)
    noise = torch.cat([torch.as_tensor(comfy.sample.prepare_noise(empty, seed)) for seed in seeds])
    schedule = comfy.samplers.KSampler(model, settings.steps, model.load_device, settings.sampler, settings.scheduler)
    sampler = comfy.samplers.sampler_object(settings.sampler)
    start = torch.zeros_like(noise) if known is None else known
    return guider.sample(noise, start, sampler, schedule.sigmas, denoise_mask=mask, disable_pbar=True, seed=seeds[0])


def decode(vae: VAE, samples: torch.Tensor) -> np.ndarray:
    """[n, height, width, 3] uint8."""
    return (vae.decode(samples).float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
