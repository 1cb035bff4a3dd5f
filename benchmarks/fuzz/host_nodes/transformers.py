"""Small random diffusion transformers of nine families, made of ComfyUI's own classes."""

from __future__ import annotations

import math
from typing import Any

import comfy.ldm.anima.model
import comfy.model_base
import comfy.model_management
import comfy.supported_models as host
import torch
from comfy.ldm.cosmos.predict2 import MiniTrainDIT

WITH_FRAMES = ("qwen", "krea2", "anima")
"""Families whose latents have a frame axis: [batch, channels, 1, height, width]."""
_FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "hidden_size": 64,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 3,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
_FLUX2 = _FLUX | {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "mlp_ratio": 3.0,
    "axes_dim": [8, 8, 8, 8],
    "theta": 2000,
    "qkv_bias": False,
    "guidance_embed": False,
    "txt_ids_dims": [3],
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
_CHROMA = {name: value for name, value in _FLUX.items() if name != "guidance_embed"} | {
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 64,
    "hidden_dim": 64,
    "n_layers": 2,
}
_QWEN = {
    "image_model": "qwen_image",
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 4,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "axes_dims_rope": (8, 12, 12),
}
_LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 64,
    "n_layers": 4,
    "n_refiner_layers": 2,
    "qk_norm": True,
    "n_heads": 2,
    "n_kv_heads": 1,
    "axes_dims": [8, 12, 12],
    "axes_lens": [64, 64, 64],
    "rope_theta": 10000.0,
    "ffn_dim_multiplier": 2.0,
    "multiple_of": 32,
}
_ZIMAGE = _LUMINA | {
    "dim": 256,  # its modulation takes no less
    "n_heads": 8,
    "n_kv_heads": 8,
    "n_refiner_layers": 1,
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 1.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
_SD3 = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 2,
    "input_size": None,
    "num_patches": 36 * 36,
    "pos_embed_max_size": 36,
    "pos_embed_scaling_factor": None,
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0],  # as SD 3.5 medium
}
_KREA2 = {
    "image_model": "krea2",
    "features": 64,
    "channels": 16,
    "patch": 2,
    "layers": 4,
    "heads": 2,
    "kvheads": 1,
    "txtlayers": 2,
    "txtheads": 2,
    "txtkvheads": 2,
}
_ANIMA = {
    "image_model": "anima",
    "max_img_h": 64,
    "max_img_w": 64,
    "max_frames": 8,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "concat_padding_mask": True,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": False,
    "pos_emb_interpolation": "crop",
    "min_fps": 1,
    "max_fps": 30,
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
    "num_blocks": 3,
    "num_heads": 2,
}


class _AnimaNetwork(comfy.ldm.anima.model.Anima):
    """Anima with a tiny text adapter, since the host's own has 135 million weights."""

    def __init__(self, *args, **kwargs):
        MiniTrainDIT.__init__(self, *args, **kwargs)
        width = kwargs["crossattn_emb_channels"]
        self.llm_adapter = comfy.ldm.anima.model.LLMAdapter(
            source_dim=width,
            target_dim=width,
            model_dim=width,
            num_layers=1,
            num_heads=2,
            device=kwargs.get("device"),
            dtype=kwargs.get("dtype"),
            operations=kwargs.get("operations"),
        )


class _Anima(comfy.model_base.Anima):
    def __init__(self, model_config, model_type=comfy.model_base.ModelType.FLOW, device=None):
        network: Any = _AnimaNetwork
        comfy.model_base.BaseModel.__init__(self, model_config, model_type, device=device, unet_model=network)


class _AnimaConfig(host.Anima):
    def get_model(self, state_dict, prefix="", device=None):
        return _Anima(self, device=device)


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {  # None where an older host lacks the family
    "flux": (host.Flux, _FLUX),
    "flux2": (host.Flux2, _FLUX2),
    "chroma": (host.Chroma, _CHROMA),
    "qwen": (host.QwenImage, _QWEN),
    "zimage": (host.ZImage, _ZIMAGE),
    "lumina2": (host.Lumina2, _LUMINA),
    "krea2": (getattr(host, "Krea2", None), _KREA2),
    "sd3": (host.SD3, _SD3),
    "anima": (_AnimaConfig, _ANIMA),
}


def sizes_of(family: str, text: int, pooled: int) -> dict[str, Any]:
    """Configuration of a family for text features of these widths, of tokens and pooled."""
    sizes = KINDS[family][1]
    if family == "sd3":
        embedder = {"target": "torch.nn.Linear", "params": {"in_features": text, "out_features": 128}}
        return sizes | {"adm_in_channels": pooled, "context_embedder_config": embedder}
    entries = {
        "flux": {"vec_in_dim": pooled, "context_in_dim": text},
        "flux2": {"vec_in_dim": None, "context_in_dim": text},
        "chroma": {"vec_in_dim": pooled, "context_in_dim": text},
        "qwen": {"joint_attention_dim": text},
        "krea2": {"txtdim": text // _KREA2["txtlayers"]},
        "anima": {"crossattn_emb_channels": text},
    }
    return sizes | entries.get(family, {"cap_feat_dim": text})


def random_transformer(
    family: str, text: int, pooled: int, seed: int, dtype: torch.dtype = torch.float32
) -> comfy.model_base.BaseModel:
    """A model of random weights for text features of these widths."""
    config = KINDS[family][0](sizes_of(family, text, pooled))
    config.set_inference_dtype(dtype, None)
    base = config.get_model({}, "", device=comfy.model_management.unet_offload_device())
    generator = torch.Generator().manual_seed(seed)
    for name, weight in base.diffusion_model.named_parameters():
        value = torch.randn(weight.shape, generator=generator)
        if weight.dim() > 1:
            value /= math.sqrt(weight[0].numel())
        else:
            value = 0.1 * value + float(("norm" in name and name.endswith("weight")) or name.endswith("scale"))
        weight.data.copy_(value)
    for name, table in base.diffusion_model.named_buffers():
        if name == "pos_embed":  # SD3 leaves it uninitialized until a checkpoint is loaded
            table.copy_(0.5 * torch.randn(table.shape, generator=generator))
    return base
