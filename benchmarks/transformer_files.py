"""Files of diffusion transformers for rehearsals: the names, keys and loaders of real ones, few blocks, random weights.

The host fixes the depth of a text encoder by its kind, so none can be cut. Where a network takes any width of text, a
CLIP of Stable Diffusion stands in for the language model. Others have their own encoder, in fp8.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import comfy.ldm.flux.model
import comfy.ldm.lumina.model
import comfy.ldm.qwen_image.model
import comfy.ldm.wan.vae
import comfy.ops
import comfy.text_encoders.llama
import comfy.text_encoders.t5
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL

from .checkpoints import META, RANK, SD15, SDXL, VAE, State, text_weights

Z_IMAGE, KREA2, QWEN_IMAGE, KLEIN, FLUX1 = "z_image", "krea2", "qwen_image", "flux2_klein", "flux1"
FP8 = torch.float8_e4m3fn
_LAYERS = comfy.ops.disable_weight_init
FLUX_CONFIG = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "depth": 1,
    "depth_single_blocks": 2,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
_KLEIN = FLUX_CONFIG | {
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "context_in_dim": 768,
    "mlp_ratio": 3.0,
    "axes_dim": [32, 32, 32, 32],
    "theta": 2000,
    "qkv_bias": False,
    "guidance_embed": False,
    "txt_ids_dims": [3],
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
}
Z_IMAGE_CONFIG = {
    "patch_size": 2,
    "in_channels": 16,
    "dim": 3840,
    "n_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "ffn_dim_multiplier": 8 / 3,
    "qk_norm": True,
    "cap_feat_dim": 768,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
_KREA2 = {"features": 1536, "heads": 12, "kvheads": 3, "layers": 2, "txtdim": 320, "txtlayers": 4}
"""Narrow: the host takes any width. The stand-in's 1280 channels are four layers of 320."""


class File(NamedTuple):
    """One file of a family. folder: below the models. shapes: makes its tensors on the meta device."""

    folder: str
    name: str
    shapes: Callable[[], State]


@dataclass(frozen=True)
class Family:
    """The files of one family. Other families may share some of them. side: of its workflows' pictures, in pixels."""

    network: File
    others: tuple[File, ...]
    side: int = 1024

    @property
    def files(self) -> tuple[File, ...]:
        return (self.network, *self.others)


def _state(network: torch.nn.Module) -> State:
    return dict(network.state_dict())


def _made(kind: Callable, **config: Any) -> State:
    return _state(kind(**config, dtype=torch.bfloat16, device=META, operations=_LAYERS))


def _flux(config: dict) -> State:
    """Real files name the scales of norms otherwise than the host."""
    state = _made(comfy.ldm.flux.model.Flux, **config)
    ends = ("query_norm.weight", "key_norm.weight")
    return {k.removesuffix("weight") + "scale" if k.endswith(ends) else k: v for k, v in state.items()}


def _krea2() -> State:
    from comfy.ldm.krea2.model import SingleStreamDiT  # older hosts have none

    return _made(SingleStreamDiT, **_KREA2)


def _autoencoder(channels: int, **more: bool) -> State:
    with META:
        network = AutoencoderKL(ddconfig=VAE | {"z_channels": channels} | more, embed_dim=channels).to(torch.bfloat16)
    return {k: v for k, v in _state(network).items() if more or "quant_conv" not in k}


def _video_autoencoder() -> State:
    with META:
        network = comfy.ldm.wan.vae.WanVAE(
            dim=96,
            z_dim=16,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=2,
            attn_scales=[],
            temperal_downsample=[False, True, True],
            image_channels=3,
            conv_out_channels=3,
            dropout=0.0,
        )
    return _state(network.to(torch.bfloat16))


def _clip(family: str, name: str) -> State:
    """A text encoder of Stable Diffusion in a file of its own."""
    prefix = f"{name}.transformer."
    return {k.removeprefix(prefix): v for k, v in text_weights(family).items() if k.startswith(prefix)}


def _t5() -> State:
    file = Path(comfy.text_encoders.t5.__file__ or "").parent / "t5_config_xxl.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    return _state(comfy.text_encoders.t5.T5(config, FP8, META, _LAYERS))


def _qwen25() -> State:
    return _state(comfy.text_encoders.llama.Qwen25_7BVLI({}, FP8, META, _LAYERS))


def lora_shapes(network: State) -> State:
    """A LoRA for the attention of every block, by the names that trainers of transformers write."""
    state: State = {}
    for key, weight in network.items():
        layer = key.removesuffix(".weight")
        if layer == key or weight.ndim != 2 or "attn" not in key.replace("attention", "attn") or "norm" in key:
            continue
        for end, shape in (("A", (RANK, weight.shape[1])), ("B", (weight.shape[0], RANK))):
            name = f"diffusion_model.{layer}.lora_{end}.weight"
            state[name] = torch.empty(shape, dtype=torch.float16, device=META)
    return state


def _family(network: str, shapes: Callable[[], State], *others: File, lora: str, side: int = 1024) -> Family:
    adapter = File("loras", f"my_subject_{lora}.safetensors", lambda: lora_shapes(shapes()))
    return Family(File("diffusion_models", network, shapes), (adapter, *others), side)


_AE = File("vae", "ae.safetensors", lambda: _autoencoder(16))
_QWEN_VAE = File("vae", "qwen_image_vae.safetensors", _video_autoencoder)
_STAND_IN = File("text_encoders", "qwen_3_4b.safetensors", lambda: _clip(SD15, "clip_l"))
FAMILIES = {
    Z_IMAGE: _family(
        "z_image_turbo_bf16.safetensors",
        lambda: _made(comfy.ldm.lumina.model.NextDiT, **Z_IMAGE_CONFIG),
        _STAND_IN,
        _AE,
        lora=Z_IMAGE,
    ),
    KREA2: _family(
        "krea2_turbo_fp8_scaled.safetensors",
        _krea2,
        File("text_encoders", "qwen3vl_4b_fp8_scaled.safetensors", lambda: _clip(SDXL, "clip_g")),
        _QWEN_VAE,
        lora=KREA2,
    ),
    QWEN_IMAGE: _family(
        "qwen_image_fp8_e4m3fn.safetensors",
        lambda: _made(comfy.ldm.qwen_image.model.QwenImageTransformer2DModel, num_layers=2),
        File("text_encoders", "qwen_2.5_vl_7b_fp8_scaled.safetensors", _qwen25),
        _QWEN_VAE,
        lora=QWEN_IMAGE,
        side=1328,
    ),
    KLEIN: _family(
        "flux-2-klein-4b.safetensors",
        lambda: _flux(_KLEIN),
        _STAND_IN,
        File("vae", "flux2-vae.safetensors", lambda: _autoencoder(32, batch_norm_latent=True)),
        lora=KLEIN,
    ),
    FLUX1: _family(
        "flux1-dev.safetensors",
        lambda: _flux(FLUX_CONFIG),
        File("text_encoders", "clip_l.safetensors", lambda: _clip(SD15, "clip_l")),
        File("text_encoders", "t5xxl_fp16.safetensors", _t5),
        _AE,
        lora=FLUX1,
    ),
}
"""Families with their files, by the names that the shipped workflows ask for."""
