"""Networks of the timings: Tinyland, and one of Stable Diffusion 1.5's size with random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import CoreModelPatcher, ModelPatcher
from comfy_api.torch_helpers import set_torch_compile_wrapper

from ..demo.precision import fast_dtype
from ..demo.world.captions import PLACEHOLDER, prompt
from ..demo.world.subjects import SUBJECTS
from ..patching.tinyland import model as tinyland
from .generate import TextEncoder
from .memory import untouched_zeros

FULL_SIZE_CONFIG = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
}
SMALL_CONFIG = {
    **FULL_SIZE_CONFIG,
    "model_channels": 32,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}
SDXL_CONFIG = {
    **FULL_SIZE_CONFIG,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
}
NARROW_CONFIG = {**FULL_SIZE_CONFIG, "model_channels": 32}
NARROW_SDXL_CONFIG = {**SDXL_CONFIG, "model_channels": 64, "context_dim": 768, "adm_in_channels": 6 * 256 + 768}
"""All blocks of SDXL for the text encoder of Stable Diffusion 1.x, which a rehearsal on a CPU can afford."""


@dataclass(frozen=True)
class Network:
    """Vanilla model, the same with a LoRA, their text encoder and prompts, and size and pictures of the timed run.

    channels: of its latents. map_blocks: those of which a word's map is read.
    """

    name: str
    prefix: str
    model: ModelPatcher
    personalized: ModelPatcher
    clip: comfy.sd.CLIP
    word: str
    side: int
    steps: int
    positive: list
    personalized_positive: list
    negative: list
    count: int = 1
    channels: int = 4
    map_blocks: str = "decoder"

    @property
    def text(self) -> str:
        return prompt(self.word, "city")

    @property
    def latent(self) -> dict[str, torch.Tensor]:
        return {"samples": torch.zeros(self.count, self.channels, self.side, self.side)}


def tiny_network(weights: Path, steps: int) -> Network:
    model, clip, _ = tinyland.load(weights)
    subject = next(iter(SUBJECTS.values()))
    tensors, _ = tinyland.read_weights(weights / "subjects" / f"{subject.name}.safetensors", "tinyland_subject")
    personalized, _ = comfy.sd.load_lora_for_models(model, clip, tensors, 1.0, 0.0)
    assert personalized is not None
    return network("Tinyland", "tinyland_", model, personalized, clip, subject.subject.name, 16, steps)


def network(
    name: str,
    prefix: str,
    model: ModelPatcher,
    personalized: ModelPatcher,
    clip: comfy.sd.CLIP,
    word: str,
    side: int,
    steps: int,
) -> Network:
    encode = TextEncoder(clip)
    positive, placed = encode([prompt(word, "city")]), encode([prompt(word, "city", placeholder=PLACEHOLDER)])
    return Network(name, prefix, model, personalized, clip, word, side, steps, positive, placed, encode([""]))


def full_size_network(side: int, steps: int) -> Network:
    """Makes a U-Net of Stable Diffusion 1.5's shape; random weights take as long as trained ones."""
    # On a CPU every layer supports bfloat16, and float16 is slow.
    dtype = fast_dtype() if comfy.model_management.get_torch_device().type == "cpu" else torch.float16
    return random_network("SD 1.5 size", "", FULL_SIZE_CONFIG, dtype, side, steps)


def small_network(steps: int) -> Network:
    """Makes a network so small that mostly the host's and the nodes' own work remains."""
    return random_network("one level", "small_", SMALL_CONFIG, torch.float32, 2, steps)


def compiled_network(made: Network, backend: str) -> Network:
    """The network with both models compiled, as TorchCompileModel does."""
    models = []
    for model in (made.model, made.personalized):
        models.append(model.clone())
        set_torch_compile_wrapper(models[-1], backend)
    return replace(made, model=models[0], personalized=models[1])


def random_network(
    name: str,
    prefix: str,
    unet: dict,
    dtype: torch.dtype,
    side: int,
    steps: int,
    kind: type[comfy.supported_models_base.BASE] = comfy.supported_models.SD15,
    *,
    blank: bool = False,
) -> Network:
    """Makes a network with random weights. blank: with zeros, which take no memory, and a LoRA for one layer."""
    device = comfy.model_management.get_torch_device()
    config = kind(unet)
    config.set_inference_dtype(dtype, None)
    base = config.get_model({}, "", device=comfy.model_management.unet_offload_device())
    fill = clear if blank else randomize
    fill(base.diffusion_model)
    model = CoreModelPatcher(base, load_device=device, offload_device=comfy.model_management.unet_offload_device())
    lora = random_lora(base.diffusion_model, most=1 if blank else None)
    personalized, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    assert personalized is not None
    # Transformers of these benchmarks take the text encoder of Stable Diffusion 1.x, too.
    texts: Any = comfy.supported_models.SD15(unet) if unet.get("context_dim", 768) == 768 else config
    clip = comfy.sd.CLIP(texts.clip_target())
    fill(clip.cond_stage_model)
    made = network(name, prefix, model, personalized, clip, "cat", side, steps)
    of_unet = isinstance(base.diffusion_model, UNetModel)
    return replace(
        made, channels=config.latent_format.latent_channels, map_blocks=made.map_blocks if of_unet else "late"
    )


def randomize(module: torch.nn.Module) -> None:
    """Fills the weights that ComfyUI's layers leave uninitialized: small random weights, neutral norms."""
    device = comfy.model_management.get_torch_device()
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            # A GPU draws billions of numbers in the time that a CPU takes for millions.
            weight.data.copy_(torch.empty_like(weight, device=device).uniform_(-0.03, 0.03))
        else:
            weight.data.fill_(float(name.endswith("weight")))


def clear(module: torch.nn.Module) -> None:
    """Fills the weights with zeros, whose memory the system takes only once they are written: neutral norms."""
    for name, weight in module.named_parameters():
        weight.data = untouched_zeros(weight.numel(), weight.dtype).view(weight.shape)
        if weight.ndim == 1 and name.endswith("weight"):
            weight.data.fill_(1.0)


def random_lora(unet: torch.nn.Module, rank: int = 16, most: int | None = None) -> dict[str, torch.Tensor]:
    """Makes a LoRA for the attention projections, as subject LoRAs usually have. most: the number of layers."""
    tensors = {}
    # The host's networks name these layers attn1, img_attn, attention and the like.
    layers = [(path, weight) for path, weight in unet.named_parameters() if "att" in path and weight.ndim == 2]
    for path, weight in layers[:most]:
        key = f"diffusion_model.{path.removesuffix('.weight')}"
        tensors[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], rank) * 0.01
        tensors[f"{key}.lora_down.weight"] = torch.randn(rank, weight.shape[1]) * 0.01
    return tensors
