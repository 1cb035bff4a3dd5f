"""The demo's model as the start of a joint model, so that sets can be tried without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from ...demo.training.denoiser import schedule, weights_digest
from ...demo.training.jedi import tinyland
from ...demo.training.loop import WEIGHTS
from ...demo.training.personal import load_denoiser
from ...demo.world.scene import SIZE
from ...patching.tinyland.model import UNET_CONFIG, TinylandConfig, load
from .checkpoint import PREFIX, Source

if TYPE_CHECKING:
    import comfy.sd
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

NAME = "tinyland"
"""Value of --checkpoint for the demo's model."""


class TinylandSource(Source):
    """Demo model in place of a checkpoint; what is written from it is a joint.safetensors of the demo."""

    steps, learning_rate, recomputes = 4000, 2e-4, False

    @property
    def resolution(self) -> int:
        return SIZE

    def tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Tensors of the U-Net alone, and the demo's own metadata."""
        state = {name: value for name, value in load_file(self.path).items() if name.startswith(PREFIX)}
        return state, {"tinyland": "{}", "denoiser": weights_digest()}

    def encoders(self) -> tuple[comfy.sd.CLIP, comfy.sd.VAE]:
        _, clip, vae = load()
        return clip, vae

    def joint_unet(self, device: torch.device) -> UNetModel:
        unet = tinyland.joint_unet(load_denoiser(device).unet, device)
        return unet.requires_grad_(True)


def open_tinyland() -> TinylandSource:
    """Demo model of the repository."""
    sigmas = schedule(torch.device("cpu"))
    return TinylandSource(WEIGHTS / "denoiser.safetensors", TinylandConfig(dict(UNET_CONFIG)), True, sigmas)
