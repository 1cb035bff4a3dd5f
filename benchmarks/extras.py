"""Weights that benchmarks use and the pack does not bundle, as `run.py train` leaves them in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from ..demo.launcher.files import digest
from ..patching.jedi.format import ATTACHMENT, IN_CHANNELS, METADATA_KEY, JointFormat
from ..patching.tinyland import model as tinyland
from . import generate
from .kept import cache_folder

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CROSS_ATTENTION, COPIES = "cross-attention", "copies"
"""Parts of `run.py train` that `all` leaves out, and their folders."""
NODE = "bench"


def folder_of(part: str) -> Path:
    return cache_folder() / "training" / part


def of_subjects(names: Sequence[str]) -> list[Path]:
    """Files of subjects whose keys and values of the text alone were tuned."""
    return [folder_of(CROSS_ATTENTION) / f"{name}.safetensors" for name in names]


def copies() -> Path:
    """File of the joint model that has seen near-copies alone."""
    return folder_of(COPIES) / "joint.safetensors"


def missing(paths: Sequence[Path], part: str, weights: Path) -> str:
    """Sentence on what to train for rows that need the files; empty where they are there, tuned on these weights."""
    wanted = digest(weights / "denoiser.safetensors")
    lacking = [path for path in paths if not path.is_file() or _base_of(path) != wanted]
    if not lacking:
        return ""
    return (
        f"Rows with {part} were not drawn: expected {lacking[0].name} of these weights in {part}, got none; train it "
        f"with `python run.py train {part}`."
    )


def _base_of(path: Path) -> str:
    """Digest of the denoiser that a file was tuned on; empty for a file that states none."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("denoiser", "")
    except safetensors.SafetensorError:
        return ""


def with_weights(model: ModelPatcher, path: Path) -> ModelPatcher:
    """Clone of the MODEL with the tensors of a file in place of its own.

    A patch that sets weights shares the vanilla network, which saves memory.
    """
    tensors, _ = tinyland.read_weights(path, "tinyland_subject", NODE)
    patched = model.clone()
    patched.add_patches({key.removeprefix("model."): ("set", (value,)) for key, value in tensors.items()})
    return patched


def copying_model(weights: Path) -> ModelPatcher:
    """Loads the joint model of near-copies."""
    tensors, metadata = tinyland.read_weights(copies(), METADATA_KEY, NODE)
    config = tinyland.TinylandConfig({**tinyland.UNET_CONFIG, "in_channels": IN_CHANNELS})
    model = tinyland.Parts.read(weights, NODE).model(config, tensors, generate.DTYPE)
    model.set_attachments(ATTACHMENT, JointFormat.of(metadata))
    return model
