"""Checks that several nodes make before sampling starts; each failure is one sentence."""

from __future__ import annotations

import torch


def check_latent(samples: torch.Tensor, node: str) -> None:
    """Raises ValueError for nested and video latents."""
    if getattr(samples, "is_nested", False):
        raise ValueError(f"{node}: expected a LATENT of images, got a nested latent of several parts; connect an image model's latent.")
    if samples.ndim != 4:
        raise ValueError(
            f"{node}: expected a LATENT of shape [batch, channels, height, width], got {samples.ndim} dimensions "
            f"{tuple(samples.shape)}; connect an image model's latent."
        )


def describe_sampling(model) -> str:
    """The prediction type of a MODEL, e.g. 'V_PREDICTION', with any patch that replaced it."""
    bases = [base.__name__ for base in type(model.get_model_object("model_sampling")).__mro__]
    named = [b for b in bases if b not in ("ModelSampling", "ModelSamplingAdvanced", "Module", "object")]
    return " + ".join(dict.fromkeys(named))


def same_patches(first, second) -> bool:
    """Whether two MODELs share their weights and carry the same patches, so that they compute the same function."""
    if first.model is not second.model:
        return False
    return all(_same(getattr(first, kind), getattr(second, kind)) for kind in ("patches", "object_patches", "model_options"))


def _same(first, second) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, int | float | str | bool | type(None)):
        return first == second
    return first is second
