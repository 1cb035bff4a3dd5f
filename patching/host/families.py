"""The family of a MODEL, and the blocks and presets that it offers. A new family is one more entry in FAMILIES."""

from __future__ import annotations

import torch

from .blocks import Block
from .family import Family
from .unet import UNET

FAMILIES: tuple[Family, ...] = (UNET,)


def family_of(model, node: str) -> Family:
    """The family of a MODEL. Raises ValueError with the model's name for a family that is not supported."""
    network = _network(model)
    for family in FAMILIES:
        if family.fits(network):
            return family
    supported = " or ".join(f"a {family.name} image model ({family.models})" for family in FAMILIES)
    raise ValueError(
        f"{node}: expected {supported}, got {type(model.model).__name__}, which is not supported yet; connect another "
        "checkpoint to model."
    )


def discover(model, node: str) -> tuple[Block, ...]:
    """The MODEL's blocks with attention, in call order. Raises ValueError as `family_of`."""
    return family_of(model, node).blocks(_network(model))


def preset(model, name: str, node: str) -> tuple[str, ...]:
    """The names of the MODEL's blocks that a preset stands for: LATE, MIDDLE or COARSE. Raises ValueError as
    `family_of`."""
    return family_of(model, node).preset(_network(model), name)


def _network(model) -> torch.nn.Module:
    network = model.get_model_object("diffusion_model")
    return getattr(network, "_orig_mod", network)  # a compiled network wraps the real one
