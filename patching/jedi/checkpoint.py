"""Loads joint checkpoints, whose metadata states the order of their input channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management
import comfy.sd
import folder_paths
import safetensors

from ..host.files import brief
from .format import ATTACHMENT, JointFormat

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

NODE = "Load Joint Checkpoint"
NO_FILES = "(no checkpoints found)"


def load(name: str) -> tuple[ModelPatcher, CLIP | None, VAE | None]:
    """MODEL, CLIP and VAE of a file in ComfyUI's checkpoints folders.

    Raises FileNotFoundError for a missing file, ValueError for one that is no joint checkpoint.
    """
    path = existing(name)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            stated = JointFormat.of(file.metadata())
    except ValueError as error:
        raise ValueError(
            f"{NODE}: {error} in {name}; train or convert the checkpoint again, or choose another file."
        ) from error
    except Exception as error:  # the reader of foreign bytes raises nothing narrower
        raise ValueError(
            f"{NODE}: expected a safetensors file, got {name} ({brief(error)}); choose another file."
        ) from error
    if stated is None:
        raise ValueError(
            f"{NODE}: expected a joint checkpoint, whose metadata states the order of its input channels, got {name}, "
            "which states none; if it is one, load it with CheckpointLoaderSimple and set channel_order on the sampler."
        )
    embeddings = folder_paths.get_folder_paths("embeddings")
    try:
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(path, embedding_directory=embeddings)
    except comfy.model_management.OOM_EXCEPTION:
        raise
    except Exception as error:  # the host raises nothing narrower
        raise ValueError(
            f"{NODE}: expected a checkpoint that ComfyUI can load, got {name} ({brief(error)}); choose another file."
        ) from error
    if model is None:
        raise ValueError(f"{NODE}: expected a checkpoint with a model, got {name} without; choose another file.")
    return with_format(model, stated), clip, vae


def existing(name: str) -> str:
    """The path of a file in ComfyUI's checkpoints folders. Raises FileNotFoundError for a missing one."""
    listed = name in folder_paths.get_filename_list("checkpoints")
    path = folder_paths.get_full_path("checkpoints", name) if listed else None
    if path is None:
        advice = "put one there" if name == NO_FILES else "choose another file"
        raise FileNotFoundError(
            f"{NODE}: expected a checkpoint in models/checkpoints, got "
            f"{'none' if name == NO_FILES else name}; {advice}."
        )
    return path


def with_format(model: ModelPatcher, stated: JointFormat) -> ModelPatcher:
    """A clone of MODEL that carries the format its checkpoint states."""
    model = model.clone()
    model.set_attachments(ATTACHMENT, stated)
    return model
