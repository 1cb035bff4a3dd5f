"""Builds the demo transformer as ComfyUI objects: a narrow Z-Image network that draws Tinyland by flow matching.

Text encoder and autoencoder are those of the demo model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_base
import comfy.supported_models_base
import torch

from .model import WEIGHTS, WIDTH_TEXT, Parts, TinylandLatent, naming, read_weights

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

TITLE = "Demo Transformer"
FILE = "transformer.safetensors"
KIND = "tinyland_transformer"
"""Metadata key of its weights, with the facts of their training."""
TRANSFORMER_CONFIG = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 4,
    "dim": 256,
    "n_layers": 4,
    "n_refiner_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 4,
    "multiple_of": 32,
    "ffn_dim_multiplier": 8 / 3,
    "qk_norm": True,
    "cap_feat_dim": WIDTH_TEXT,
    "axes_dims": [16, 24, 24],
    "axes_lens": [64, 64, 64],
    "rope_theta": 256.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
}
"""Arguments of ComfyUI's NextDiT. Its modulation takes no width below 256."""
SHIFT = 3.0
"""Shift of the noise levels, as Z-Image's, in training and in sampling."""


class TransformerConfig(comfy.supported_models_base.BASE):
    unet_extra_config = {}
    sampling_settings = {"multiplier": 1.0, "shift": SHIFT}
    latent_format = TinylandLatent
    memory_usage_factor = 1.4
    supported_inference_dtypes = [torch.bfloat16, torch.float32]
    training_side = 128

    def get_model(self, state_dict, prefix="", device=None):
        return comfy.model_base.Lumina2(self, device=device)


def load(
    folder: Path = WEIGHTS, embedding_directory: list[str] | str | None = None, dtype: torch.dtype | None = None
) -> tuple[ModelPatcher, CLIP, VAE]:
    """MODEL, CLIP and VAE, as `model.load` gives them.

    Raises FileNotFoundError for a missing file, ValueError for a truncated one or another model's.
    """
    with naming(TITLE, folder):
        parts, weights = Parts.read(folder, TITLE), read_weights(folder / FILE, KIND, TITLE)[0]
        model = parts.model(TransformerConfig(dict(TRANSFORMER_CONFIG)), weights, dtype)
        return model, parts.clip(embedding_directory), parts.vae()
