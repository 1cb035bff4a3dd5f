"""Null-text inversion (arXiv 2211.09794), by which Pick-and-Draw brings its reference to each noise level."""

from __future__ import annotations

import torch

STEPS = 10
"""Most gradient steps per noise level (section 4 of the paper)."""


def guided(unconditional: torch.Tensor, conditional: torch.Tensor, scale: float) -> torch.Tensor:
    """w eps(z, t, C) + (1 - w) eps(z, t, null) (null-text inversion, arXiv 2211.09794, eq. 1), of denoised latents.

    Both are [rows, channels, height, width]; the mean is the same for noise and for denoised latents.
    """
    return torch.lerp(unconditional, conditional, scale)


def pivot_distance(latent: torch.Tensor, pivot: torch.Tensor, sigma: float) -> torch.Tensor:
    """|z*_{t-1} - z_{t-1}|^2, as a mean (null-text inversion, arXiv 2211.09794, eq. 3).

    latent, pivot: noisy at `sigma`, variance exploding; the paper's latents are these / sqrt(1 + sigma^2).
    """
    return (latent - pivot).float().square().mean() / (1 + sigma**2)


def learning_rate(step: int, steps: int) -> float:
    """The learning rate of Adam at a noise level (null-text inversion, arXiv 2211.09794, its published code).

    It falls from 0.01 to half of it over `steps` levels.
    """
    return 1e-2 * (1 - 0.5 * step / steps)


def reached(loss: float, step: int, steps: int) -> bool:
    """True where a level needs no further gradient step (null-text inversion, arXiv 2211.09794, its published code).

    The limit rises from 1e-5 by 2e-5 at each of 50 levels.
    """
    return loss < 1e-5 + 2e-5 * 50 * step / steps
