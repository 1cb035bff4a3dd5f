"""Gradients through diffusion transformers: blocks to recompute, and positions that have a gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import comfy.model_management
import torch

from .family import Options
from .frozen_layers import Forward

_BLOCKS = frozenset(
    {
        ("comfy.ldm.flux.layers", "DoubleStreamBlock"),
        ("comfy.ldm.flux.layers", "SingleStreamBlock"),
        ("comfy.ldm.lumina.model", "JointTransformerBlock"),
        ("comfy.ldm.qwen_image.model", "QwenImageTransformerBlock"),
        ("comfy.ldm.krea2.model", "SingleStreamBlock"),
        ("comfy.ldm.modules.diffusionmodules.mmdit", "JointBlock"),
        ("comfy.ldm.cosmos.predict2", "Block"),
    }
)
"""Modules and classes of transformer blocks, by name, since older hosts lack some of them."""
_CHECKPOINTING = ("comfy.ldm.modules.diffusionmodules.mmdit", "JointBlock")
"""SD3's block, which the host checkpoints by itself unless told not to."""
_ROTATING = ("comfy.ldm.cosmos.predict2", "Attention")
"""Anima's attention, whose rotation has no gradient even in training."""


def is_transformer_block(module: torch.nn.Module) -> bool:
    """True for a block of a diffusion transformer."""
    return _class_name(module) in _BLOCKS


def block_forward(block: torch.nn.Module) -> Forward:
    """A transformer block's forward without the host's own checkpoint, which keeps no ordinary tensors."""
    original = block.forward
    if _class_name(block) != _CHECKPOINTING:
        return original

    def forward(*args, use_checkpoint: bool = False, **kwargs):
        return original(*args, use_checkpoint=False, **kwargs)

    return forward


@contextlib.contextmanager
def training() -> Iterator[None]:
    """Sets the host's own switch for training, by which it leaves kernels that have no gradient."""
    before = comfy.model_management.in_training
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before


def rotates(module: torch.nn.Module) -> bool:
    """True for attention of Anima, for which `with_rotation` has to change options."""
    return _class_name(module) == _ROTATING


def with_rotation(options: Options) -> Options:
    """A call's `transformer_options` in which Anima's queries and keys are rotated by operations with a gradient.

    They are rotated before all other overrides of attention, so these see what they see in a plain call.
    """
    rotation, patches = _Rotation(options["optimized_attention_override"]), options.get("patches", {})
    added = {"attn1_patch": rotation.take, "attn2_patch": rotation.leave}
    patches = {**patches, **{slot: [*patches.get(slot, ()), patch] for slot, patch in added.items()}}
    return {**options, "patches": patches, "optimized_attention_override": rotation}


@dataclass(eq=False)
class _Rotation:
    """An override of attention that rotates queries and keys in the host's place during one model call."""

    attention: Callable
    table: torch.Tensor | None = field(default=None, init=False)

    def take(self, q, k, v, pe=None, attn_mask=None, extra_options=None) -> dict:
        """Takes the positions of a self-attention that is about to run."""
        self.table = pe
        return {"pe": None}

    def leave(self, q, k, v, pe=None, attn_mask=None, extra_options=None) -> dict:
        """Ends a self-attention before cross-attention, which has no positions."""
        self.table = None
        return {}

    def __call__(self, func: Callable, q: torch.Tensor, k: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if self.table is not None:
            q, k = rotated_halves(q, self.table), rotated_halves(k, self.table)
        return self.attention(func, q, k, *args, **kwargs)


def rotated_halves(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rotates pairs of channels, the first half with the second, by their token's position (RoPE, arXiv 2104.09864).

    x: [rows, heads, tokens, channels]. table: rotation matrices in fp32, [1, tokens, 1, channels / 2, 2, 2].
    """
    first, second = x.float().chunk(2, -1)
    matrix = table.reshape(x.shape[2], x.shape[3] // 2, 2, 2)
    rotated = [matrix[..., row, 0] * first + matrix[..., row, 1] * second for row in (0, 1)]
    return torch.cat(rotated, -1).to(x.dtype)


def _class_name(module: torch.nn.Module) -> tuple[str, str]:
    return type(module).__module__, type(module).__name__
