"""Joint checkpoints that say what they are, and prompts line by line."""

from __future__ import annotations

import comfy.sd
import folder_paths
import safetensors

from .format import ATTACHMENT, JointFormat

LOAD, LIST = "LikenessLoadJointCheckpoint", "LikenessPromptList"
NO_FILES = "(no checkpoints found)"


def load(name: str):
    """MODEL, CLIP and VAE of a file in ComfyUI's checkpoints folders. Raises FileNotFoundError or ValueError in one
    sentence."""
    path = folder_paths.get_full_path("checkpoints", name)
    if path is None:
        raise FileNotFoundError(
            f"{LOAD}: expected a checkpoint in models/checkpoints, got {name}, which is not there; choose another file."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            told = JointFormat.of(file.metadata())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{LOAD}: expected a safetensors file, got {name} ({error}); choose another file.") from error
    except ValueError as error:
        raise ValueError(
            f"{LOAD}: {error} in {name}; train or convert the checkpoint again, or choose another file."
        ) from error
    if told is None:
        raise ValueError(
            f"{LOAD}: expected a joint checkpoint, whose metadata tells the order of its input channels, got {name}, "
            "which tells none; if it is one, load it with CheckpointLoaderSimple and set channel_order on the sampler."
        )
    embeddings = folder_paths.get_folder_paths("embeddings")
    model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(path, embedding_directory=embeddings)
    return told_to(model, told), clip, vae


def told_to(model, told: JointFormat):
    """A clone of MODEL that carries what its checkpoint says."""
    model = model.clone()
    model.set_attachments(ATTACHMENT, told)
    return model


def encode_lines(clip, text: str, prefix: str) -> list[list]:
    """A CONDITIONING for every line that is not empty. Raises ValueError where there is none."""
    if clip is None:
        raise ValueError(f"{LIST}: expected a CLIP, got none, as from a checkpoint without one; connect a CLIP loader.")
    lines = [f"{prefix.strip()} {line.strip()}".strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{LIST}: expected at least one prompt, got none; write one prompt per line.")
    return [clip.encode_from_tokens_scheduled(clip.tokenize(line)) for line in lines]
