"""A Segment Anything checkpoint of random weights, small enough to run in a moment."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from likeness.patching.layout_and_retouch import segmenter

SIZES = segmenter.Sizes(width=32, depth=2, heads=2, global_blocks=(1,), tokens=16, patch=16)


def state(sizes: segmenter.Sizes = SIZES) -> dict[str, torch.Tensor]:
    """Random weights in half precision; equal calls give equal weights."""
    importlib.invalidate_caches()  # the package may have been installed a moment ago
    torch.manual_seed(0)
    return {name: value.half() for name, value in segmenter.build(sizes).state_dict().items()}


def write(folder: Path) -> None:
    """Writes a .pth file of the name that the shipped workflow asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state(), folder / "sam_vit_b_01ec64.pth")
