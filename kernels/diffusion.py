"""Steps along the diffusion path, in the variance-exploding convention of k-diffusion: latent = clean + sigma * noise.

A variance-preserving latent is z = latent / sqrt(1 + sigma^2), with abar = 1 / (1 + sigma^2); the model's eps-estimate
is (latent - denoised) / sigma in both conventions.
"""

from __future__ import annotations

import torch


def noised(clean: torch.Tensor, sigma: float, noise: torch.Tensor, signal: float = 1.0) -> torch.Tensor:
    """z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps (DDPM, arXiv 2006.11239, eq. 4), times sqrt(1 + sigma^2).

    clean, noise: [rows, channels, height, width]; noise of unit variance. signal: the factor of the clean latent,
    1 - sigma for flow models. Returns the noisy latent of the same shape.
    """
    return torch.add(clean if signal == 1 else signal * clean, noise, alpha=sigma)


def ddim_step(latent: torch.Tensor, denoised: torch.Tensor, sigma: float, next_sigma: float) -> torch.Tensor:
    """z_{t-1} = sqrt(abar_{t-1}) x0 + sqrt(1 - abar_{t-1}) eps (DDIM, arXiv 2010.02502, eq. 12 with eta = 0), times
    sqrt(1 + sigma^2).

    latent: noisy at `sigma` > 0; denoised: the model's x0-estimate there. Returns the latent at `next_sigma`. With
    next_sigma > sigma the same formula inverts: eps is then taken at the lower noise level. It is also Euler's step of
    a flow model, whose latents are (1 - sigma) clean + sigma * noise.
    """
    return torch.lerp(denoised, latent, next_sigma / sigma)
