"""Gradient checkpointing for the host's networks, which checkpoint only their residual blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def recomputed(network: torch.nn.Module) -> Iterator[None]:
    """Recomputes residual and transformer blocks of `network` in the backward pass; inside the block only inputs are
    kept."""
    blocks = [layer for layer in network.modules() if isinstance(layer, (ResBlock, BasicTransformerBlock))]
    try:
        for block in blocks:
            block.__dict__["forward"] = partial(_run, block.forward)
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def _run(forward: Callable[..., torch.Tensor], *args, **kwargs) -> torch.Tensor:
    # The host reuses the options for the next block and overwrites the block's number in them.
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
    result = checkpoint(partial(forward, **kept), *args, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(result, torch.Tensor)
    return result
