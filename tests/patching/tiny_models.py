"""Small random U-Nets of the supported families, built from the host's own classes, and one way to sample with them."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.supported_models
import torch

FAMILIES = ("sd1", "sd2", "sdxl")
_COMMON = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "use_spatial_transformer": True, "legacy": False,
}  # fmt: skip
_SHAPES = {
    "sd1": (
        comfy.supported_models.SD15,
        {
            "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
            "transformer_depth_middle": 1, "context_dim": 24, "use_linear_in_transformer": False, "adm_in_channels": None,
            "use_temporal_attention": False,
        },
    ),
    "sd2": (
        comfy.supported_models.SD20,
        {
            "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
            "transformer_depth_middle": 1, "context_dim": 32, "use_linear_in_transformer": True, "adm_in_channels": None,
            "use_temporal_attention": False,
        },
    ),
    "sdxl": (
        comfy.supported_models.SDXL,
        {
            "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [0, 2], "transformer_depth_output": [2, 2, 0, 0],
            "transformer_depth_middle": 3, "context_dim": 40, "use_linear_in_transformer": True, "adm_in_channels": 64,
            "use_temporal_attention": False, "num_classes": "sequential",
        },
    ),
}  # fmt: skip


def initialise(module: torch.nn.Module, seed: int) -> None:
    """Random weights everywhere, also where a real network starts with zeros, so that every layer matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter.dtype) / parameter[0].numel() ** 0.5
        else:
            parameter.data = torch.full_like(parameter, float("norm" in name or "layers.0.weight" in name or name.endswith("out.0.weight")))
            if name.endswith("bias"):
                parameter.data.zero_()


def tiny_model(family: str = "sd1", dtype: torch.dtype = torch.float32, seed: int = 0, v_prediction: bool = False):
    """A ModelPatcher around a small random U-Net with the block structure of `family`."""
    kind, shape = _SHAPES[family]
    config = kind({**_COMMON, **shape})
    if v_prediction:
        config.model_type = lambda *_a, **_k: comfy.model_base.ModelType.V_PREDICTION
    elif family == "sd2":
        config.model_type = lambda *_a, **_k: comfy.model_base.ModelType.EPS
    config.unet_config.update(num_heads=2, num_head_channels=-1)
    config.set_inference_dtype(dtype, None)
    if family == "sdxl":
        config.model_type = lambda *_a, **_k: comfy.model_base.ModelType.EPS
    base = comfy.model_base.SDXL(config, device="cpu") if family == "sdxl" else config.get_model({}, device="cpu")
    initialise(base.diffusion_model, seed)
    base.eval().requires_grad_(False)
    if family == "sdxl":
        base.encode_adm = lambda **_k: torch.ones(1, 64)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(base, load_device=device, offload_device=torch.device("cpu"))


def conditioning(model, tokens: int = 7, seed: int = 0, rows: int = 1):
    """CONDITIONING of random text features [rows, tokens, width]."""
    width = model.model.model_config.unet_config["context_dim"]
    generator = torch.Generator().manual_seed(1000 + seed)
    return [[torch.randn(rows, tokens, width, generator=generator), {"pooled_output": torch.zeros(rows, 8)}]]


def latent(batch: int = 1, height: int = 8, width: int = 8) -> dict:
    return {"samples": torch.zeros(batch, 4, height, width)}


def sample(
    model, positive=None, negative=None, *, batch=1, height=8, width=8, steps=4, cfg=4.0, sampler="euler", scheduler="normal", denoise=1.0,
    seed=3, noise_mask=None, samples=None, callback=None,
) -> torch.Tensor:  # fmt: skip
    """The samples that the host's KSampler gives, on the CPU."""
    samples = latent(batch, height, width)["samples"] if samples is None else samples
    return comfy.sample.sample(
        model, comfy.sample.prepare_noise(samples, seed), steps, cfg, sampler, scheduler,
        positive or conditioning(model), negative or conditioning(model, seed=1), samples, denoise=denoise, noise_mask=noise_mask,
        callback=callback, disable_pbar=True, seed=seed,
    )  # fmt: skip


def add_lora(model, seed: int = 5, strength: float = 0.5):
    """A clone whose weights differ by a random low-rank patch of every attention projection."""
    clone = model.clone()
    generator = torch.Generator().manual_seed(seed)
    patches = {}
    for key, weight in model.model.state_dict().items():
        if "attn" in key and weight.ndim == 2:
            patches[key] = (0.3 * torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5,)
    assert patches
    clone.add_patches(patches, strength)
    return clone
