"""Trains Tinyland's autoencoder: ComfyUI's AutoencoderKL, 8x smaller, 4 channels, then whitens its latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from comfy.ldm.models.autoencoder import AutoencoderKL

from ...patching.tinyland.model import AUTOENCODER_CONFIG
from ..precision import autocast
from .loop import Trainer, initialize
from .pool import Pool

BATCH = 8


def to_tensor(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """[n, h, w, 3] uint8 -> [n, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def build(device: torch.device, seed: int = 0) -> AutoencoderKL:
    model = AutoencoderKL(**AUTOENCODER_CONFIG)
    initialize(model, seed)
    return model.to(device)


def moments(model: AutoencoderKL, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-variance of the latents, each [n, 4, h/8, w/8]."""
    mean, log_variance = model.quant_conv(model.encoder(images)).chunk(chunks=2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def decode(model: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    return model.decoder(model.post_quant_conv(latents))


def _batch(pool: Pool, step: int, device: torch.device) -> torch.Tensor:
    return to_tensor(pool.images(np.random.default_rng(step).integers(0, len(pool), BATCH)), device)


def reconstruction_loss(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """L1 + 10 * MSE + half the L1 of horizontal and vertical differences, so that edges stay sharp."""
    error = restored - images
    edges = torch.diff(error, dim=2).abs().mean() + torch.diff(error, dim=3).abs().mean()
    return error.abs().mean() + 10 * error.pow(2).mean() + 0.5 * edges


def refine_decoder(work: Path, model: AutoencoderKL, steps: int, device: torch.device) -> AutoencoderKL:
    """Trains the decoder alone: latents, and with them every model trained on them, stay as they are."""
    pool = Pool(work, 16_000)
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    trainer = Trainer("decoder", work, model, steps, 6e-4, device, decay=0.4)

    def loss_of_step(step: int) -> torch.Tensor:
        images = _batch(pool, step, device)
        with autocast(device):
            with torch.no_grad():
                latents = moments(model, images)[0].float()
            restored = decode(model, latents + 0.03 * torch.randn_like(latents)).float()
        return reconstruction_loss(restored, images)

    trainer.run(loss_of_step)
    return model


def train(work: Path, steps: int, device: torch.device, start: AutoencoderKL | None = None) -> AutoencoderKL:
    """Trains the autoencoder. start: one that it goes on from, unless there is a checkpoint to resume."""
    pool = Pool(work, 16_000)
    model = build(device) if start is None else start.requires_grad_(True).train()
    trainer = Trainer("autoencoder", work, model, steps, 6e-4, device, decay=0.3)

    def loss_of_step(step: int) -> torch.Tensor:
        images = _batch(pool, step, device)
        with autocast(device):
            mean, log_variance = moments(model, images)
            mean, log_variance = mean.float(), log_variance.float()
            noisy = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            restored = decode(model, noisy).float()
        kl = 0.5 * (mean.pow(2) + log_variance.exp() - 1 - log_variance).mean()
        return reconstruction_loss(restored, images) + 2e-4 * kl

    trainer.run(loss_of_step)
    whiten(model, pool, device)
    return model


@torch.no_grad()
def whiten(model: AutoencoderKL, pool: Pool, device: torch.device) -> None:
    """Folds an affine map into the 1x1 convolutions so that latents have mean 0 and identity covariance."""
    latents = torch.cat(
        [moments(model, to_tensor(pool.images(np.arange(i, i + 50)), device))[0] for i in range(0, 1000, 50)]
    )
    flat = latents.permute(1, 0, 2, 3).flatten(1).double()
    mean = flat.mean(1)
    variances, vectors = torch.linalg.eigh(torch.cov(flat))
    forward = torch.diag(variances.rsqrt()) @ vectors.T
    backward = vectors @ torch.diag(variances.sqrt())
    quant, post = model.quant_conv, model.post_quant_conv
    assert quant.bias is not None and post.bias is not None
    weight, bias = quant.weight[:4, :, 0, 0].double(), quant.bias[:4].double()
    quant.weight[:4, :, 0, 0] = (forward @ weight).float()
    quant.bias[:4] = (forward @ (bias - mean)).float()
    weight = post.weight[:, :, 0, 0].double()
    post.bias += (weight @ mean).float()
    post.weight[:, :, 0, 0] = (weight @ backward).float()
    # The posterior's spread is used only in training, and it would not match the rotated mean.
    quant.weight[4:] = 0
    quant.bias[4:] = -12


@torch.no_grad()
def psnr(model: AutoencoderKL, pool: Pool, device: torch.device, count: int = 200) -> float:
    """Mean peak signal-to-noise ratio in dB over renders, images in [0, 1]."""
    values = []
    for i in range(0, count, 50):
        images = to_tensor(pool.images(np.arange(i, min(count, i + 50))), device)
        restored = decode(model, moments(model, images)[0]).clamp(-1, 1)
        values.append(-10 * torch.log10(F.mse_loss(restored, images, reduction="none").mean((1, 2, 3)) / 4))
    return float(torch.cat(values).mean())


@torch.no_grad()
def rgb_factors(model: AutoencoderKL, pool: Pool, device: torch.device) -> tuple[list[list[float]], list[float]]:
    """Fits a map from a latent pixel to its mean color in [-1, 1] by least squares, for previews: ([4][3], [3])."""
    images = to_tensor(pool.images(np.arange(200)), device)
    colors = F.avg_pool2d(images, 8).permute(0, 2, 3, 1).reshape(-1, 3)
    latents = moments(model, images)[0].permute(0, 2, 3, 1).reshape(-1, 4)
    design = torch.cat([latents, torch.ones_like(latents[:, :1])], 1)
    solution = torch.linalg.lstsq(design, colors).solution
    return solution[:4].tolist(), solution[4].tolist()
