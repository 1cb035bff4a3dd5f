"""Small random U-Nets of the shapes of SD 1.x, SD 2.x and SDXL, made of ComfyUI's own classes."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.supported_models
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import BaseModel, ModelType

WIDTH_SD1 = 768
"""Width of the text features of SD 1.x."""
_ONE_LEVEL = {
    "image_size": 32,
    "in_channels": 9,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [0, 0],
    "transformer_depth_middle": -2,
    "context_dim": WIDTH_SD1,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
}
"""A joint model that the host detects as SD 1.x, with one block that attends."""
_COMMON = {
    "image_size": 32,
    "out_channels": 4,
    "model_channels": 32,
    "use_spatial_transformer": True,
    "legacy": False,
}
_FOUR_LEVELS = {
    **_COMMON,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
}


class _SD1(comfy.supported_models.SD15):
    unet_extra_config = {"num_heads": 4, "num_head_channels": -1}
    shape = _FOUR_LEVELS | {"use_linear_in_transformer": False}


class _SD2(comfy.supported_models.SD20):
    unet_extra_config = {"num_heads": -1, "num_head_channels": 16, "attn_precision": torch.float32}
    shape = _FOUR_LEVELS | {"use_linear_in_transformer": True}

    def model_type(self, state_dict, prefix=""):
        return ModelType.V_PREDICTION


class _SDXL(comfy.supported_models.SDXL):
    unet_extra_config = {"num_heads": -1, "num_head_channels": 16}
    shape = _COMMON | {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 2],
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "transformer_depth_middle": 2,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
    }


FAMILIES = {"sd1": _SD1, "sd2": _SD2, "sdxl": _SDXL}


def configured(kind: type, text: int, pooled: int) -> dict[str, Any]:
    """A family's configuration for text features of these widths, of tokens and pooled."""
    sizes = {"in_channels": 4, "context_dim": text}
    return kind.shape | sizes | ({"adm_in_channels": 6 * 256 + pooled} if "num_classes" in kind.shape else {})


def random_model(kind: type, config: dict, seed: int, dtype: torch.dtype = torch.float32) -> BaseModel:
    """A model of random weights; eps-prediction for sd1 and sdxl, v-prediction for sd2."""
    made = kind(config)
    made.set_inference_dtype(dtype, None)
    base = made.get_model({}, "", device=comfy.model_management.unet_offload_device())
    generator = torch.Generator().manual_seed(seed)
    for name, weight in base.diffusion_model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.dim() > 1:  # the output has about unit variance
            value = noise / math.sqrt(weight[0].numel()) * (0.2 if name == "out.2.weight" else 1.0)
        else:
            value = 0.1 * noise + float(name.endswith("weight"))
        weight.data.copy_(value)
    return base


def one_level_checkpoint() -> dict[str, torch.Tensor]:
    """Tensors of a joint checkpoint without a text encoder and an autoencoder."""
    generator = torch.Generator().manual_seed(0)
    network = UNetModel(**_ONE_LEVEL, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
    state = {}
    for name, tensor in network.state_dict().items():
        value = torch.full(tensor.shape, float(name.endswith("weight")))
        if tensor.dim() > 1:
            value = torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5
        state[f"model.diffusion_model.{name}"] = value.half()
    return state
