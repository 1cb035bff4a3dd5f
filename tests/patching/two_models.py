"""Pairs of MODELs that a step-blended run can switch between."""

from __future__ import annotations

import torch
from likeness.tests.patching.tiny_models import tiny_model


def add_lora(model, strength: float = 0.5):
    """A clone with random weight patches of its attention projections, like a LoRA's."""
    clone = model.clone()
    generator = torch.Generator().manual_seed(5)
    weights = {k: w for k, w in model.model.state_dict().items() if "attn" in k and w.ndim == 2}
    patches = {k: (0.3 * torch.randn(w.shape, generator=generator) / w.shape[1] ** 0.5,) for k, w in weights.items()}
    assert clone.add_patches(patches, strength)
    return clone


def twins(family: str = "sd1") -> tuple:
    """Two checkpoints, each with its own copy of equal weights; no test may patch these weights."""
    first, second = tiny_model(family, seed=77), tiny_model(family, seed=78)
    second.model.load_state_dict(first.model.state_dict())
    return first, second


def zeros(batch: int = 1) -> torch.Tensor:
    """An empty image's latent, [batch, 4, 8, 8]."""
    return torch.zeros(batch, 4, 8, 8)
