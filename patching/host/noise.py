"""The host's mixture of a clean picture and noise, for every kind of model sampling."""

from __future__ import annotations

from typing import Any

import torch


def is_flow(model_sampling: Any) -> bool:
    """True for flow matching, whose latents lose the picture as they gain noise."""
    if not hasattr(model_sampling, "noise_scaling"):  # of another pack
        return False
    return noise_scales(model_sampling, 0.5)[0] != 1.0


def noise_scales(model_sampling: Any, sigma: float) -> tuple[float, float]:
    """(signal, noise): the factors of the clean picture and of unit noise in the host's latent at `sigma`.

    model_sampling: a MODEL's; its `noise_scaling` is linear. It gives (1, sigma) for eps- and v-prediction and
    (1 - sigma, sigma) for flow models.
    """
    level = torch.tensor([sigma], dtype=torch.float32)
    none, unit = torch.zeros(1, 1), torch.ones(1, 1)
    # The host may add to its arguments in place.
    signal = model_sampling.noise_scaling(level, none.clone(), unit.clone(), False)
    noise = model_sampling.noise_scaling(level, unit.clone(), none.clone(), False)
    return float(signal), float(noise)
