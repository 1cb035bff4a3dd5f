"""Small random autoencoders for the latents of diffusion transformers, made of ComfyUI's own classes."""

from __future__ import annotations

import comfy.ldm.wan.vae
import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL

IMAGE, PACKED, VIDEO = FORMATS = ("image", "packed", "video")
"""Latents of 16 channels; of 128, downscaled 16 times; of 16 with an axis of frames."""
_SIZES = {
    "double_z": True,
    "z_channels": 16,
    "resolution": 64,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
_VIDEO = {
    "dim": 8,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "image_channels": 3,
    "conv_out_channels": 3,
    "dropout": 0.0,
}


def random_autoencoder(format: str) -> comfy.sd.VAE:
    """The VAE of one of FORMATS."""
    if format == VIDEO:
        return comfy.sd.VAE(sd=_filled(comfy.ldm.wan.vae.WanVAE(**_VIDEO)))
    channels = {"z_channels": 32, "batch_norm_latent": True} if format == PACKED else {"z_channels": 16}
    config = {"ddconfig": _SIZES | channels, "embed_dim": channels["z_channels"]}
    made = comfy.sd.VAE(sd=_filled(AutoencoderKL(**config)), config={"params": config})
    made.latent_channels = 16
    if format == PACKED:
        made.latent_channels, made.downscale_ratio, made.upscale_ratio = 128, 16, 16
    return made


def _filled(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights that keep the size of what passes; neutral norms."""
    generator, state = torch.Generator().manual_seed(0), {}
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            state[name] = torch.zeros_like(tensor)
        elif name.endswith(("bias", "running_mean")):
            state[name] = torch.zeros(tensor.shape)
        elif name.endswith(("gamma", "running_var")) or tensor.dim() < 2:
            state[name] = torch.ones(tensor.shape)
        else:
            state[name] = torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5
    return state
