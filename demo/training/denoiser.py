"""Trains Tinyland's text encoder and U-Net together, v-prediction, on cached latents of the world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import comfy.ops
import numpy as np
import torch
import torch.nn.functional as F
from comfy.clip_model import CLIPLayer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_sampling import ModelSamplingDiscrete
from safetensors.torch import load_file

from ...patching.tinyland.model import (
    MAX_TOKENS,
    UNET_CONFIG,
    TextTransformer,
    TinylandConfig,
    WordTokenizer,
    text_config,
    unet_config,
)
from ..launcher.files import digest, replacing
from ..precision import autocast
from ..world.captions import caption, vocabulary
from .autoencoder import moments, to_tensor
from .loop import WEIGHTS, Trainer, initialize
from .pool import Pool, sources

if TYPE_CHECKING:
    from comfy.ldm.models.autoencoder import AutoencoderKL

BATCH = 32
DECAY = 0.4
SUBJECT_WEIGHT = 6.0
"""Loss weight of a latent pixel of the subject relative to the background: it is small but carries all identity."""
SCENES = 32_000
HARD_PATTERNS = ("dotted", "checked")
"""Patterns drawn three times as often: their parts are smallest, and they are learned last."""
CAPTION_DROPOUT = 0.1


class Denoiser(torch.nn.Module):
    """Text encoder and U-Net as they are trained; `forward` predicts v from the scaled noisy latent."""

    def __init__(self, device: torch.device, seed: int = 0):
        super().__init__()
        self.words = vocabulary()
        self.tokenizer = WordTokenizer(self.words)
        operations = comfy.ops.disable_weight_init
        self.text = TextTransformer(text_config(len(self.words)), torch.float32, device, operations)
        self.unet = UNetModel(**unet_config(), dtype=torch.float32, device=device, operations=operations)
        initialize(self, seed)
        embeddings = self.text.text_model.embeddings
        torch.nn.init.normal_(embeddings.token_embedding.weight, std=0.5)
        torch.nn.init.normal_(embeddings.position_embedding.weight, std=0.1)
        self.text.text_projection.requires_grad_(False)
        for name, parameter in self.unet.named_parameters():  # as in SD: residual branches start at zero
            if (
                "out_layers.3" in name
                or name.endswith(("proj_out.weight", "proj_out.bias"))
                or name.startswith("out.2")
            ):
                torch.nn.init.zeros_(parameter)

    def tokens(self, captions: list[str], device: torch.device) -> torch.Tensor:
        """[n, MAX_TOKENS] word ids, padded with the end token as ComfyUI's tokenizer does."""
        rows = [self.tokenizer(c)["input_ids"] for c in captions]
        return torch.tensor([r + [1] * (MAX_TOKENS - len(r)) for r in rows], device=device)

    def encode(self, captions: list[str], device: torch.device) -> torch.Tensor:
        """[n, MAX_TOKENS, width] text features."""
        return self.features(self.text.text_model.embeddings(self.tokens(captions, device), dtype=torch.float32))

    def features(self, embedded: torch.Tensor) -> torch.Tensor:
        """Text features of embedded words [n, tokens, width]; out of place, unlike the host's forward, so gradients
        flow."""
        model = self.text.text_model
        tokens = embedded.shape[1]
        mask = torch.full((tokens, tokens), -1e4, device=embedded.device).triu_(1)
        for layer in model.encoder.layers:
            assert isinstance(layer, CLIPLayer)
            embedded = embedded + layer.self_attn(layer.layer_norm1(embedded), mask, masked_attention)
            embedded = embedded + layer.mlp(layer.layer_norm2(embedded))
        return model.final_layer_norm(embedded)

    def forward(self, latents: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        options = {"optimized_attention_override": plain_attention} if latents.device.type == "cpu" else {}
        return self.unet(latents, timesteps, context, transformer_options=options)


def plain_attention(_function, q, k, v, heads, *_arguments, **_options):
    """Attention by two batched products: with gradients, twice as fast on a CPU as the fused kernel at this size."""
    rows, _, width = q.shape
    return split_attention(*(t.view(rows, -1, heads, width // heads).transpose(1, 2) for t in (q, k, v)))


def split_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of heads side by side, [rows, heads, tokens, d], as in `plain_attention`; [rows, tokens, heads * d]."""
    rows, heads, n, d = q.shape
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=d**-0.5)
    mixed = torch.bmm(torch.softmax(scores, -1, dtype=q.dtype), v)
    return mixed.view(rows, heads, n, d).transpose(1, 2).reshape(rows, n, heads * d)


def masked_attention(q, k, v, heads, mask):
    rows, n, width = q.shape
    q, k, v = (t.view(rows, -1, heads, width // heads).transpose(1, 2) for t in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
    return mixed.transpose(1, 2).reshape(rows, n, width)


def schedule(device: torch.device) -> torch.Tensor:
    """[1000] sigmas of the discrete schedule, in the variance-exploding convention."""
    sigmas = ModelSamplingDiscrete(TinylandConfig(dict(UNET_CONFIG))).sigmas
    assert isinstance(sigmas, torch.Tensor)
    return sigmas.to(device)


Predictor = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(noisy [n, 4, h, w] of unit variance, timesteps [n], context [n, tokens, width]) -> [n, 4, h, w]"""


def velocity_loss(
    model: Predictor,
    latents: torch.Tensor,
    context: torch.Tensor,
    sigmas: torch.Tensor,
    weight: torch.Tensor | None = None,
    members: int = 1,
) -> torch.Tensor:
    """Mean squared error of v = alpha * noise - sigma_t * x0 (progressive distillation, arXiv 2202.00512, eq. 9).

    members: number of consecutive latents that share a noise level, the members of a set.
    """
    n = len(latents) // members
    # Most draws lie around the noise levels that decide shapes and patterns.
    middle = torch.randn(n, device=latents.device) * 0.2 + 0.48
    uniform = torch.rand(n, device=latents.device)
    fraction = torch.where(torch.rand(n, device=latents.device) < 0.65, middle, uniform).clamp(0, 0.9999)
    t = (fraction * len(sigmas)).long().repeat_interleave(members)
    return denoising_loss(model, latents, context, t, sigmas[t], weight, velocity=True)


def denoising_loss(
    model: Predictor,
    latents: torch.Tensor,
    context: torch.Tensor,
    t: torch.Tensor,
    sigmas: torch.Tensor,
    weight: torch.Tensor | None,
    velocity: bool,
) -> torch.Tensor:
    """Mean squared error of the noise, or of the velocity, that `model` predicts. t, sigmas: [n], per
    latent."""
    sigma = sigmas.view(-1, 1, 1, 1)
    alpha = (sigma**2 + 1).rsqrt()
    noise = torch.randn_like(latents)
    noisy = alpha * (latents + sigma * noise)
    with autocast(latents.device):
        predicted = model(noisy, t.float(), context)
    target = alpha * (noise - sigma * latents) if velocity else noise
    error = F.mse_loss(predicted.float(), target, reduction="none")
    return (error if weight is None else error * weight).mean()


def subject_weight(masks: np.ndarray, device: torch.device) -> torch.Tensor:
    """[n, 1, h / 8, w / 8] loss weights of mean 1 from subject masks, uint8 [n, h, w]."""
    touched = F.max_pool2d(torch.from_numpy(masks).to(device)[:, None].float(), 8) > 0
    weight = 1 + (SUBJECT_WEIGHT - 1) * touched
    return weight / weight.mean()


def encode_pool(work: Path, autoencoder: AutoencoderKL, device: torch.device) -> torch.Tensor:
    """[SCENES, 4, 16, 16] latents of the pool, cached in the work folder for this autoencoder and this world."""
    path = work / f"latents-{SCENES}-{digest(WEIGHTS / 'autoencoder.safetensors', *sources())}.pt"
    return latents_of(Pool(work, SCENES), path, autoencoder, device)


@torch.no_grad()
def latents_of(pool: Pool, path: Path, autoencoder: AutoencoderKL, device: torch.device) -> torch.Tensor:
    """[len(pool), 4, 16, 16] latents of a pool's pictures, cached at `path`."""
    if path.exists():
        return torch.load(path, map_location=device, weights_only=True)
    parts = []
    for start in range(0, len(pool), 50):
        with autocast(device):
            parts.append(moments(autoencoder, to_tensor(pool.images(np.arange(start, start + 50)), device))[0].float())
    latents = torch.cat(parts)
    with replacing(path) as temporary:
        torch.save(latents, temporary)
    return latents


def weights_digest() -> str:
    """Digest of the pack's denoiser weights: models tuned on them fit no others."""
    return digest(WEIGHTS / "denoiser.safetensors")


def stored_weights(device: torch.device | None = None) -> dict[str, torch.Tensor]:
    """The pack's own weights of U-Net and text encoder."""
    return load_file(WEIGHTS / "denoiser.safetensors", device=str(device or "cpu"))


def load_weights(model: Denoiser, device: torch.device) -> Denoiser:
    """Puts the pack's own weights into the model."""
    state = stored_weights(device)
    for module, prefix in (
        (model.unet, "model.diffusion_model."),
        (model.text, "cond_stage_model.clip_l.transformer."),
    ):
        module.load_state_dict({k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)})
    return model


def train(
    work: Path, steps: int, autoencoder: AutoencoderKL, device: torch.device, from_weights: bool = False
) -> Denoiser:
    """Trains the denoiser.

    from_weights: start from the pack's own weights instead of random ones, unless there is a checkpoint to resume.
    """
    latents, pool = encode_pool(work, autoencoder, device), Pool(work, SCENES)
    scenes = [Pool.scene_of(i) for i in range(SCENES)]
    model = Denoiser(device)
    if from_weights:
        load_weights(model, device)
    sigmas = schedule(device)
    shares = [3 if scene.subject.pattern in HARD_PATTERNS else 1 for scene in scenes]
    trainer = Trainer("denoiser", work, model, steps, 7e-4, device, decay=DECAY, average=0.9985)

    def loss_of_step(step: int) -> torch.Tensor:
        rng = Random(step)
        indices = rng.choices(range(len(latents)), shares, k=BATCH)
        captions = ["" if rng.random() < CAPTION_DROPOUT else caption(scenes[i], rng) for i in indices]
        with autocast(device):
            context = model.encode(captions, device)
        return velocity_loss(
            model, latents[indices], context, sigmas, subject_weight(pool.masks(np.array(indices)), device)
        )

    trainer.run(loss_of_step)
    return model
