"""Checkpoint that ComfyUI detects as SD1.x: a one-level U-Net of its widths, its CLIP, and TAESD as a small VAE."""

from __future__ import annotations

from pathlib import Path

import comfy.ops
import comfy.sd1_clip
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file

_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [0, 0],
    "transformer_depth_middle": -2,
    "context_dim": 768,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
}


def filled(state: dict[str, torch.Tensor], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random weights of the shapes of `state`, with neutral norms."""

    def value(name: str, shape: torch.Size) -> torch.Tensor:
        if len(shape) < 2:
            return torch.full(shape, float(name.endswith("weight")))
        return torch.randn(shape, generator=generator) / shape[1:].numel() ** 0.5

    return {name: value(name, tensor.shape) for name, tensor in state.items()}


def tensors(**unet: object) -> dict[str, torch.Tensor]:
    """Tensors of the checkpoint. unet: entries that differ in the U-Net's config."""
    generator, operations = torch.Generator().manual_seed(0), comfy.ops.disable_weight_init
    network = UNetModel(**{**_UNET, **unet}, dtype=torch.float32, device="cpu", operations=operations)
    state = {f"model.diffusion_model.{k}": v for k, v in filled(network.state_dict(), generator).items()}
    text = comfy.sd1_clip.SDClipModel(device="cpu", dtype=torch.float16).transformer.state_dict()
    # Twelve layers that do nothing: the text is that of its own words, and random numbers for them all would take
    # seconds.
    text = {k: torch.zeros_like(v) for k, v in text.items() if "text_projection" not in k}
    for name in ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight"):
        weight = text[f"text_model.{name}"]
        few = torch.randn(61, weight.shape[1], generator=generator).half()
        text[f"text_model.{name}"] = few[torch.arange(len(weight)) % len(few)]
    text["text_model.final_layer_norm.weight"] += 1
    state |= {f"cond_stage_model.transformer.{k}": v for k, v in text.items()}
    autoencoder = {k: v for k, v in TAESD().state_dict().items() if not k.startswith("vae_")}
    state |= {f"first_stage_model.{k}": v for k, v in filled(autoencoder, generator).items()}
    return {name: tensor.half().contiguous() for name, tensor in state.items()}


def write(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file(state, path, metadata={"title": "tiny"})
    return path
