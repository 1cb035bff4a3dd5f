"""Checkpoints of SD 1.5's and SDXL's shape with the names of real files and random weights, LoRAs and embeddings.

That of SD 3.5 medium has 4 of its 24 blocks, whose number its width follows, and no T5.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import comfy.clip_model
import comfy.ops
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.utils
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ..demo.launcher.files import replacing
from .networks import FULL_SIZE_CONFIG, SDXL_CONFIG

META = torch.device("meta")
SD15, SDXL, SD35 = "sd15", "sdxl", "sd35"
CHECKPOINTS = {
    SD15: "v1-5-pruned-emaonly-fp16.safetensors",
    SDXL: "sd_xl_base_1.0.safetensors",
    SD35: "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",
}
LORAS = {family: f"my_subject_{family}.safetensors" for family in CHECKPOINTS}
EMBEDDING = "my_subject.safetensors"
RANK = 16
_CONFIGS = {SD15: (FULL_SIZE_CONFIG, comfy.supported_models.SD15), SDXL: (SDXL_CONFIG, comfy.supported_models.SDXL)}
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
_SD35 = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 4,
    "input_size": None,
    "adm_in_channels": 2048,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 256}},
    "num_patches": 64**2,
    "pos_embed_max_size": 64,
    "qk_norm": "rms",
    "pos_embed_scaling_factor": None,
    "x_block_self_attn_layers": [0, 1],
}
_BRANCH_ENDS = ("out_layers.3.weight", "proj_out.weight", "conv2.weight", "attn1.to_out.0.weight", "net.2.weight")
_BRANCH_ENDS += ("attn2.to_out.0.weight", "mlp.fc2.weight", "mlp.c_proj.weight", "out_proj.weight")
"""Last layers of residual branches. Small ones keep the sum of many branches within half precision."""
_BRANCH_SCALE = 0.3
_UNET = "model.diffusion_model."
_POOL = 1_000_003
"""Random numbers that all weights repeat. The prime keeps rows of weights from being alike."""

_KINDS = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3", torch.int64: "I64"}
_ONES = ("weight", "scale", "gamma", "running_var")
"""Ends of the names of norms."""

State = dict[str, torch.Tensor]


def shapes(family: str) -> State:
    """Tensors of a family's checkpoint by their usual names, on the meta device."""
    if family == SD35:
        return _sd35_shapes()
    unet_config, kind = _CONFIGS[family]
    config = kind(dict(unet_config))
    layers = comfy.ops.disable_weight_init
    unet = UNetModel(**unet_config, num_heads=8, dtype=torch.float16, device=META, operations=layers)
    state = config.process_unet_state_dict_for_saving(unet.state_dict())
    with META:
        autoencoder = AutoencoderKL(ddconfig=VAE, embed_dim=4).half()
    state |= config.process_vae_state_dict_for_saving(autoencoder.state_dict())
    state |= config.process_clip_state_dict_for_saving(text_weights(family))
    if family == SDXL:  # the host's converter names this encoder after itself
        state = comfy.utils.state_dict_prefix_replace(state, {"clip_l.": "conditioner.embedders.0."})
    else:
        state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77).expand(1, -1)
    return state


def _sd35_shapes() -> State:
    config, layers = comfy.supported_models.SD3(dict(_SD35)), comfy.ops.disable_weight_init
    network = MMDiT(**_SD35, dtype=torch.float16, device=META, operations=layers)
    state = config.process_unet_state_dict_for_saving(network.state_dict())
    with META:
        autoencoder = AutoencoderKL(ddconfig=VAE | {"z_channels": 16}, embed_dim=16).half()
    kept = {name: value for name, value in autoencoder.state_dict().items() if "quant_conv" not in name}
    state |= config.process_vae_state_dict_for_saving(kept)
    return state | config.process_clip_state_dict_for_saving(text_weights(SD35))


def text_weights(family: str) -> State:
    """Weights of the text encoders by the host's names."""
    folders = {"clip_l": (comfy.sd1_clip, "sd1_clip_config.json")}
    if family != SD15:
        folders["clip_g"] = (comfy.sdxl_clip, "clip_config_bigg.json")
    state: State = {}
    for name, (module, file) in folders.items():
        config = json.loads((Path(str(module.__file__)).parent / file).read_text(encoding="utf-8"))
        text = comfy.clip_model.CLIPTextModel(config, torch.float16, META, comfy.ops.disable_weight_init)
        state |= {f"{name}.transformer.{key}": value for key, value in text.state_dict().items()}
    return state


def lora_shapes(family: str) -> State:
    """LoRA for the attention of the U-Net and of the text encoders, by the names that kohya's trainer writes."""
    everything = shapes(family)
    unet = {key.removeprefix(_UNET): value for key, value in everything.items() if key.startswith(_UNET)}
    # kohya names SD 1.x's blocks as Diffusers does, and others as the checkpoint does
    names = comfy.utils.unet_to_diffusers(FULL_SIZE_CONFIG) if family == SD15 else {key: key for key in unet}
    state: State = {}

    def add(layer: str, weight: torch.Tensor) -> None:
        state[f"{layer}.alpha"] = torch.empty((), dtype=torch.float16, device=META)
        for end, shape in (("down", (RANK, weight.shape[1])), ("up", (weight.shape[0], RANK))):
            state[f"{layer}.lora_{end}.weight"] = torch.empty(shape, dtype=torch.float16, device=META)

    for name, key in names.items():
        if ".attn" in key and key.endswith(".weight") and unet[key].ndim == 2:
            add("lora_unet_" + name.removesuffix(".weight").replace(".", "_"), unet[key])
    prefixes = {"clip_l": "lora_te" if family == SD15 else "lora_te1", "clip_g": "lora_te2"}
    for key, weight in text_weights(family).items():
        encoder, _, layer = key.removesuffix(".weight").partition(".transformer.")
        if "_proj" in layer and key.endswith(".weight") and "layers" in layer:
            add(f"{prefixes[encoder]}_{layer.replace('.', '_')}", weight)
    return state


def embedding_shapes() -> State:
    """Textual inversion of three tokens for both text encoders of SDXL, the first of which is SD 1.5's."""
    return {
        name: torch.empty((3, width), dtype=torch.float16, device=META)
        for name, width in (("clip_l", 768), ("clip_g", 1280))
    }


def write(path: Path, state: State) -> Path:
    """Writes random weights of these shapes as a safetensors file, one tensor at a time. An existing file stays."""
    if path.is_file():
        return path
    header, end = {}, 0
    for name, tensor in state.items():
        begin, end = end, end + tensor.numel() * tensor.dtype.itemsize
        kind = _KINDS[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for values, tensor in zip(_values(state), state.values(), strict=True):
            plain = values.to(tensor.dtype).contiguous().view(-1)
            file.write(plain.view(torch.uint8).numpy().tobytes())
    return path


def _values(state: State) -> Iterator[torch.Tensor]:
    """Random values in the order of `state`: unit variance behind every layer, neutral norms."""
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(0))
    at = 0
    for name, tensor in state.items():
        count = tensor.numel()
        if tensor.dtype == torch.int64:
            yield torch.arange(count).view(tensor.shape)
        elif tensor.ndim < 2 and name.endswith("alpha"):
            yield torch.full(tensor.shape, float(RANK), dtype=torch.float16)
        elif tensor.ndim < 2 or name.endswith("gamma"):
            yield torch.full(tensor.shape, float(name.endswith(_ONES)), dtype=torch.float16)
        else:
            spread = (pool * _scale(name, tensor)).half()
            yield spread.roll(-at).repeat(math.ceil(count / _POOL))[:count].view(tensor.shape)
            at = (at + count) % _POOL


def _scale(name: str, tensor: torch.Tensor) -> float:
    if "_embedding" in name or name.startswith("clip_"):
        return 0.5
    scale = tensor[0].numel() ** -0.5
    if "lora_up" in name:
        return 0.1 * scale
    if name.endswith("quant_conv.weight") or "decoder.conv_out" in name:
        return 0.5 * scale
    return scale * (_BRANCH_SCALE if name.endswith(_BRANCH_ENDS) else 1.0)
