"""The user's checkpoint: its family, read from the names and shapes of its weights."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import comfy.model_detection
import comfy.supported_models
import safetensors
import torch
from comfy.supported_models_base import BASE

from ..launcher.files import Problem

PREFIX = "model.diffusion_model."
SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth")
_META = torch.device("meta")
_ANOTHER = "give --checkpoint another file"

Shapes = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Family:
    """Family of checkpoints. side: of its training pictures; tera: operations of one call at that size, in 10^12."""

    name: str
    side: int
    tera: float


_FAMILIES = (
    (comfy.supported_models.SDXL, Family("SDXL", 1024, 6.8)),
    (comfy.supported_models.SD20, Family("SD 2.x", 768, 2.1)),
    (comfy.supported_models.SD15, Family("SD 1.x", 512, 0.8)),
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Checkpoint with a U-Net, text encoder and VAE. config: the host's model config, detected from the file."""

    path: Path
    family: Family
    config: BASE


def open_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint's family, not its weights. Raises Problem for what the demo cannot load."""
    if path.is_dir():
        raise Problem(f"expected a checkpoint file, got the folder {path}: give --checkpoint a file in it.")
    if not path.is_file():
        raise Problem(f"expected a checkpoint at {path}, got no such file: correct --checkpoint.")
    if path.suffix.lower() not in SUFFIXES:
        raise Problem(f"expected a checkpoint ({', '.join(SUFFIXES)}), got {path.name}: {_ANOTHER}.")
    shapes = read_shapes(path, "--checkpoint")
    unet = any(name.startswith(PREFIX) for name in shapes)
    config = comfy.model_detection.model_config_from_unet(shapes, PREFIX) if unet else None
    family = next((family for kind, family in _FAMILIES if isinstance(config, kind)), None)
    if config is None or family is None:
        found = "no U-Net that ComfyUI knows" if config is None else type(config).__name__
        raise Problem(f"expected a checkpoint of SD 1.x, SD 2.x or SDXL, got {found} in {path.name}: {_ANOTHER}.")
    channels = config.unet_config["in_channels"]
    if channels != 4:
        raise Problem(
            f"expected 4 input channels, got {channels} (of inpainting, editing or a joint model) in {path.name}: "
            f"{_ANOTHER}."
        )
    texts = (*config.text_encoder_key_prefix, "conditioner.")
    for part, prefixes in (("text encoder", texts), ("VAE", config.vae_key_prefix)):
        if not any(name.startswith(tuple(prefixes)) for name in shapes):
            raise Problem(
                f"expected a {part} in the checkpoint, got none in {path.name}: give --checkpoint a full one."
            )
    return Checkpoint(path.resolve(), family, config)


def read_shapes(path: Path, option: str) -> Shapes:
    """Tensors of a file by name, on the meta device. Pickles are read as weights alone and run no code.

    option: of the command, for the sentence. Raises Problem for any other file.
    """
    another = f"give {option} another file"
    if path.suffix.lower() in (".safetensors", ".sft"):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                names = list(file.keys())  # the file is not a mapping
                return {name: torch.empty(file.get_slice(name).get_shape(), device=_META) for name in names}
        except (safetensors.SafetensorError, OSError) as error:
            raise Problem(
                f"expected a safetensors file, got {path.name}, which is none ({error}): {another}."
            ) from error
    try:
        content = torch.load(path, map_location=_META, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise Problem(
            f"expected weights alone in {path.name}, got a file that is damaged or would run code: {another}, best a "
            "safetensors one."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
