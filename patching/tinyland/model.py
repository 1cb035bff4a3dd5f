"""Builds Tinyland, the bundled demo model, as ComfyUI objects: a narrow SD1.x network with v-prediction."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.clip_model
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch

from ..host.family import COARSE, LATE, MAPS, MIDDLE
from ..host.files import brief
from ..jedi.format import ATTACHMENT, IN_CHANNELS, METADATA_KEY, JointFormat
from .weights import BASE, read_weights

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

WEIGHTS = Path(__file__).resolve().parents[2] / "demo" / "weights"
WIDTH_TEXT = 128
MAX_TOKENS = 24
UNET_CONFIG = {
    "image_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [1, 1, 1],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": WIDTH_TEXT,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
}
AUTOENCODER_CONFIG = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 128,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2, 4],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
}
TUNED_BLOCKS = {
    LATE: ("output4", "output5"),
    MIDDLE: ("output2", "output3", "output4", "output5"),
    COARSE: ("output3",),
    MAPS: ("output2", "output3", "output4", "output5"),
}
"""Blocks of the preset "demo", which were chosen for this network: it has fewer layers than SD 1.x."""
SAMPLING_SETTINGS = {"linear_end": 0.02}
SPECIAL_WORDS = ("<start>", "<end>", "<unknown>")


class WordTokenizer:
    """Splits lower-case text into words of a fixed vocabulary, with the Hugging Face interface that ComfyUI uses."""

    def __init__(self, words: list[str]):
        self.ids = {word: i for i, word in enumerate(words)}

    @classmethod
    def from_pretrained(cls, words: list[str]) -> WordTokenizer:
        return cls(words)

    def __call__(self, text: str) -> dict[str, list[int]]:
        unknown = self.ids["<unknown>"]
        words = re.findall(r"[a-z]+", text.lower())
        return {"input_ids": [self.ids["<start>"], *(self.ids.get(w, unknown) for w in words), self.ids["<end>"]]}

    def get_vocab(self) -> dict[str, int]:
        return self.ids

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        names = {i: w for w, i in self.ids.items()}
        words = (names[int(i)] for i in token_ids)
        return " ".join(w for w in words if not (skip_special_tokens and w in SPECIAL_WORDS))


class TextTransformer(comfy.clip_model.CLIPTextModel):
    """CLIP's text model with the vocabulary size of its configuration."""

    def __init__(self, config_dict: dict, dtype, device, operations):
        super().__init__(config_dict, dtype, device, operations)
        width = config_dict["hidden_size"]
        self.set_input_embeddings(operations.Embedding(config_dict["vocab_size"], width, dtype=dtype, device=device))


class _TextEncoder(comfy.sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}):
        vocabulary = model_options["tinyland_vocabulary"]
        super().__init__(
            device=device,
            max_length=MAX_TOKENS,
            textmodel_json_config=text_config(len(vocabulary)),
            dtype=dtype,
            model_class=TextTransformer,
            special_tokens={"start": 0, "end": 1, "pad": 1},
            return_projected_pooled=False,
            model_options=model_options,
        )


class _ClipModel(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}):
        super().__init__(device=device, dtype=dtype, model_options=model_options, clip_model=_TextEncoder)  # pyright: ignore[reportArgumentType]


class _SDTokenizer(comfy.sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data={}):
        super().__init__(
            tokenizer_path=tokenizer_data["tinyland_vocabulary"],
            max_length=MAX_TOKENS,
            embedding_directory=embedding_directory,
            embedding_size=WIDTH_TEXT,
            tokenizer_class=WordTokenizer,  # pyright: ignore[reportArgumentType]
            tokenizer_data=tokenizer_data,
        )


class _Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data={}):
        super().__init__(embedding_directory=embedding_directory, tokenizer_data=tokenizer_data, tokenizer=_SDTokenizer)


class TinylandLatent(comfy.latent_formats.LatentFormat):
    """Unscaled latents: the autoencoder's 1x1 convolutions already whiten them."""

    scale_factor = 1.0


class TinylandConfig(comfy.supported_models_base.BASE):
    unet_extra_config = {"num_heads": 4, "num_head_channels": -1}
    sampling_settings = SAMPLING_SETTINGS
    latent_format = TinylandLatent
    memory_usage_factor = 1.0
    tuned_blocks = TUNED_BLOCKS

    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.V_PREDICTION


def text_config(vocabulary_size: int) -> dict:
    """Configuration of the text encoder, in the keys of Hugging Face's CLIP."""
    return {
        "hidden_size": WIDTH_TEXT,
        "intermediate_size": 4 * WIDTH_TEXT,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "max_position_embeddings": MAX_TOKENS,
        "hidden_act": "quick_gelu",
        "eos_token_id": 1,
        "vocab_size": vocabulary_size,
    }


def unet_config() -> dict:
    """Keyword arguments for ComfyUI's UNetModel."""
    return {**UNET_CONFIG, **TinylandConfig.unet_extra_config}


def load(
    folder: Path = WEIGHTS,
    embedding_directory: list[str] | str | None = None,
    dtype: torch.dtype | None = None,
    joint: bool = False,
    joint_file: Path | None = None,
) -> tuple[ModelPatcher, CLIP, VAE]:
    """MODEL, CLIP and VAE from the folder's safetensors files, whose keys have ComfyUI's SD1.x prefixes.

    dtype: the denoiser's precision, None for ComfyUI's choice on this device.
    joint: load the denoiser that was trained on sets, from joint.safetensors. joint_file: another one in its place.
    Raises FileNotFoundError for a missing file, ValueError for a truncated one or another model's.
    """
    node = "Demo Joint Model" if joint else "Demo Model"
    with naming(node, folder):
        parts = Parts.read(folder, node)
        network, channels = parts.denoiser, UNET_CONFIG["in_channels"]
        if joint:
            file = joint_file or folder / "joint.safetensors"
            network, metadata = read_weights(file, METADATA_KEY, node, parts.denoiser)
            channels = IN_CHANNELS
        model = parts.model(TinylandConfig({**UNET_CONFIG, "in_channels": channels}), network, dtype)
        if joint:
            model.set_attachments(ATTACHMENT, JointFormat.of(metadata))
        return model, parts.clip(embedding_directory), parts.vae()


@contextlib.contextmanager
def naming(node: str, folder: Path) -> Iterator[None]:
    """Makes one sentence with the node's name of what the host raises for weights that do not fit."""
    try:
        yield
    except (FileNotFoundError, comfy.model_management.OOM_EXCEPTION):
        raise
    except Exception as error:  # the host raises nothing narrower
        if str(error).startswith(f"{node}: "):
            raise
        raise ValueError(
            f"{node}: expected the demo model's weights in {folder}, got others ({brief(error)}); reinstall the pack."
        ) from error


@dataclass(frozen=True, eq=False)
class Parts:
    """Files that the demo's models share. denoiser: with the text encoder. facts: from the metadata of both."""

    denoiser: dict[str, torch.Tensor]
    autoencoder: dict[str, torch.Tensor]
    facts: dict

    @classmethod
    def read(cls, folder: Path, node: str) -> Parts:
        """Raises FileNotFoundError and ValueError as `read_weights` does."""
        denoiser, stated = read_weights(folder / BASE, "tinyland", node)
        autoencoder, colors = read_weights(folder / "autoencoder.safetensors", "tinyland", node)
        return cls(denoiser, autoencoder, json.loads(stated["tinyland"]) | json.loads(colors["tinyland"]))

    def model(
        self, config: comfy.supported_models_base.BASE, weights: dict[str, torch.Tensor], dtype: torch.dtype | None
    ) -> ModelPatcher:
        """The MODEL of a configuration and its weights, whose keys have the prefix `model.diffusion_model.`."""
        config.latent_format.latent_rgb_factors = self.facts["latent_rgb_factors"]
        config.latent_format.latent_rgb_factors_bias = self.facts["latent_rgb_factors_bias"]
        load_device = comfy.model_management.get_torch_device()
        cast = None
        if dtype is None:
            dtype = comfy.model_management.unet_dtype(
                device=load_device, supported_dtypes=config.supported_inference_dtypes
            )
            cast = comfy.model_management.unet_manual_cast(dtype, load_device, config.supported_inference_dtypes)
        config.set_inference_dtype(dtype, cast)
        offload_device = comfy.model_management.unet_offload_device()
        base = config.get_model(weights, "model.diffusion_model.", device=offload_device)
        model = comfy.model_patcher.CoreModelPatcher(base, load_device=load_device, offload_device=offload_device)
        base.load_model_weights(weights, "model.diffusion_model.", assign=model.is_dynamic())
        return model

    def clip(self, embedding_directory: list[str] | str | None) -> CLIP:
        options = {"tinyland_vocabulary": self.facts["vocabulary"]}
        target = comfy.supported_models_base.ClipTarget(_Tokenizer, _ClipModel)
        return comfy.sd.CLIP(
            target,
            embedding_directory=embedding_directory,
            tokenizer_data=options,
            model_options=options,
            state_dict=_with_prefix(self.denoiser, "cond_stage_model."),  # pyright: ignore[reportArgumentType]
        )

    def vae(self) -> VAE:
        weights = _with_prefix(self.autoencoder, "first_stage_model.")
        return comfy.sd.VAE(sd=weights, config={"params": AUTOENCODER_CONFIG})


def _with_prefix(state_dict: dict, prefix: str) -> dict:
    return comfy.utils.state_dict_prefix_replace(state_dict, {prefix: ""}, filter_keys=True)
