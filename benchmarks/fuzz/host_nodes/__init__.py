"""Nodes for fuzzed graphs: tiny models of random weights, a random picture, and the facts about a latent.

The fuzzer copies this folder into the custom nodes of its own ComfyUI.
"""

from __future__ import annotations

import hashlib
import json
import math

import comfy.model_management
import comfy.supported_models
import torch
from comfy.model_base import BaseModel, ModelType
from comfy.model_patcher import CoreModelPatcher

WIDTH_TEXT = 128
"""Width of the demo model's text encoder, which all tiny models of the nodes share."""
_WIDTH = 64
"""Channels of FuzzModel: two or more per group of normalization, as in real models. Torch refuses a single value."""
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


def configured(kind: type, text: int, pooled: int) -> dict:
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


def patcher_of(base: BaseModel) -> CoreModelPatcher:
    """The MODEL of a host's model."""
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return CoreModelPatcher(base, *devices)


class FuzzModel:
    """A model of a family's shape with random weights; the host takes nine channels for an inpainting model."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "make", "fuzz"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {
            "required": {
                "family": (list(FAMILIES),),
                "seed": ("INT", {"default": 0}),
                "channels": ("INT", {"default": 4}),
            }
        }

    def make(self, family: str, seed: int, channels: int):
        kind = FAMILIES[family]
        config = configured(kind, WIDTH_TEXT, WIDTH_TEXT) | {"in_channels": channels, "model_channels": _WIDTH}
        return (patcher_of(random_model(kind, config, seed)),)


class FuzzImage:
    """Pictures of random blobs."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "make", "fuzz"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {name: ("INT", {"default": 64}) for name in ("width", "height", "count", "seed")}}

    def make(self, width: int, height: int, count: int, seed: int):
        coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        return (pixels.movedim(1, -1).contiguous(),)


class FuzzResult:
    """Shows a latent's hash and statistics as text."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "show", "fuzz", True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"latent": ("LATENT",)}}

    def show(self, latent: dict):
        samples = latent["samples"].float().cpu().contiguous()
        facts = {
            "hash": hashlib.sha256(samples.numpy().tobytes()).hexdigest(),
            "finite": bool(samples.isfinite().all()),
            "deviations": [round(float(picture.std()), 6) for picture in samples],
            "shape": list(samples.shape),
        }
        return {"ui": {"text": [json.dumps(facts)]}}


NODE_CLASS_MAPPINGS = {kind.__name__: kind for kind in (FuzzModel, FuzzImage, FuzzResult)}
