"""Makes ComfyUI's loader of checkpoints know the demo's network: a custom node of the pictures' server alone.

ComfyUI recognizes the networks of families that it knows. The demo's joint model is in a file of its own, without text
encoder and autoencoder.
"""

import comfy.latent_formats
import comfy.model_base
import comfy.supported_models
import comfy.supported_models_base

NODE_CLASS_MAPPINGS: dict[str, type] = {}


class Latent(comfy.latent_formats.LatentFormat):
    """Unscaled, as the demo's autoencoder makes them."""

    scale_factor = 1.0


class Config(comfy.supported_models_base.BASE):
    """The demo's network."""

    unet_config = {"model_channels": 64, "context_dim": 128}
    unet_extra_config = {"num_heads": 4, "num_head_channels": -1}
    sampling_settings = {"linear_end": 0.02}
    latent_format = Latent
    memory_usage_factor = 1.0
    vae_key_prefix = ["first_stage_model."]

    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.V_PREDICTION

    def clip_target(self, state_dict={}):
        return None


comfy.supported_models.models.append(Config)
