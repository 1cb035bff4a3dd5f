"""The family of a MODEL, its blocks and its presets. A new transformer is one more row in `dit_table`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .blocks import DEMO, PAPER, Block, Layer
from .dit import DiT
from .dit_table import ROWS, row_of
from .family import MAPS, Family, Resolution
from .unet import UNET

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def family_of(model: ModelPatcher, node: str) -> Family:
    """The family of a MODEL. Raises ValueError, naming the model, if no family fits."""
    network = _network(model)
    if UNET.fits(network):
        return UNET
    row = row_of(network)
    if row is not None and row.known(network):
        return DiT(row, network)
    if row is not None:
        raise ValueError(
            f"{node}: expected a ComfyUI that numbers the blocks of {row.name} models, got an older one; update "
            "ComfyUI, or connect another checkpoint to model."
        )
    raise ValueError(
        f"{node}: expected a {UNET.name} image model ({UNET.models}) or a transformer "
        f"({', '.join(row.models for row in ROWS)}), got {type(model.model).__name__}, which is not supported yet; "
        "connect another checkpoint to model."
    )


def discover(model: ModelPatcher, node: str) -> tuple[Block, ...]:
    """The MODEL's blocks with attention, in call order. Raises ValueError for an unsupported family."""
    return family_of(model, node).blocks(_network(model))


def preset(model: ModelPatcher, name: str, node: str) -> tuple[str, ...]:
    """The names of the MODEL's blocks in a preset: LATE, MIDDLE or COARSE.

    Raises ValueError for an unsupported family.
    """
    return family_of(model, node).preset(_network(model), name)


def presets(model: ModelPatcher, name: str, node: str) -> dict[str, tuple[str, ...]]:
    """The names of the MODEL's blocks that a widget knows by PAPER and DEMO, for `blocks.parse`.

    name: LATE, MIDDLE or COARSE, or MAPS, which has no PAPER. DEMO is there for a network whose configuration states
    its `tuned_blocks`, as the demo's does. Raises ValueError for an unsupported family.
    """
    found = {} if name == MAPS else {PAPER: preset(model, name, node)}
    # The host's configurations warn of what they do not know; their classes do not.
    stated: dict[str, tuple[str, ...]] = getattr(type(model.model.model_config), "tuned_blocks", {})
    return {**found, DEMO: stated[name]} if name in stated else found


def training_resolution(model: ModelPatcher, node: str) -> Resolution:
    """The size of the pictures that a MODEL was trained on. Raises ValueError for an unsupported family."""
    return family_of(model, node).training_resolution(model.model)


def hidden_shapes(model: ModelPatcher, size: tuple[int, int], node: str) -> dict[Layer, tuple[tuple[int, int], int]]:
    """((height, width), channels) of every attention layer's hidden states, for latents of `size`.

    Raises ValueError for an unsupported family.
    """
    return family_of(model, node).hidden_shapes(_network(model), size)


def _network(model: ModelPatcher) -> torch.nn.Module:
    network = model.get_model_object("diffusion_model")
    return getattr(network, "_orig_mod", network)  # a compiled network wraps the real one
