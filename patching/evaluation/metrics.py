"""Networks of the metrics inside ComfyUI: found in its folders of models, and moved between devices as its own are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import folder_paths
import numpy as np
import torch

from . import encoders, judge, weights
from .encoders import Clip, Encoder
from .judge import JUDGE, JudgeEncoder
from .preprocessing import GEOMETRIES, fitting

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from PIL import Image

NODE = "Likeness Metrics"
NONE = "none"
USUAL = "usual"
IDENTITY = (*weights.KNOWN, JUDGE)
PROMPT = (*(name for name, known in weights.KNOWN.items() if known.reads_texts), NONE)
GEOMETRY = (USUAL, *GEOMETRIES)
_RESERVE = 2**29
"""Bytes that the activations of a batch need at most."""


class _Movable(torch.nn.Module):
    """Module that the host moves between devices: the host sets `device`, which transformers does not allow."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network


class Held:
    """Network of a metric that the host loads and unloads."""

    def __init__(self, encoder: Encoder | JudgeEncoder):
        management = comfy.model_management
        self.encoder = encoder
        self.patcher: ModelPatcher = comfy.model_patcher.ModelPatcher(
            _Movable(encoder.network),
            load_device=management.get_torch_device(),
            offload_device=management.unet_offload_device(),
        )

    @property
    def name(self) -> str:
        return self.encoder.name

    def _there(self) -> None:
        comfy.model_management.load_models_gpu([self.patcher], memory_required=_RESERVE, force_full_load=True)
        self.encoder.device = self.patcher.load_device

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Embeddings [n, channels] of length 1."""
        self._there()
        return self.encoder.pictures(pictures)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [n, channels] of length 1, of a network that reads texts."""
        assert isinstance(self.encoder, Clip)
        self._there()
        return self.encoder.texts(texts)


@dataclass(frozen=True)
class Metrics:
    """Networks that compare pictures with photographs, and with a prompt. prompt: None for no such network."""

    identity: Held
    prompt: Held | None = None


def folders() -> list[Path]:
    """Places of weights: models/likeness_metrics, models/clip_vision, and the cache of Hugging Face."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if weights.FOLDER not in folder_paths.folder_names_and_paths:
        own = str(Path(folder_paths.models_dir) / weights.FOLDER)
        folder_paths.folder_names_and_paths[weights.FOLDER] = ([own], set())
    places = [place for name in (weights.FOLDER, "clip_vision") for place in folder_paths.get_folder_paths(name)]
    return [*map(Path, places), Path(HF_HUB_CACHE)]


def existing(name: str) -> Path:
    """File of a network's tensors. Raises ValueError for a network that is not on the disk."""
    if name == JUDGE:
        return judge.WEIGHTS
    known = weights.named(name)
    try:
        return known.file(known.find(folders()))
    except weights.MissingWeights as error:
        raise ValueError(_sentence(error)) from error


def check_geometry(identity: str, geometry: str) -> None:
    """Raises ValueError for a geometry whose pictures the network does not take; the judge has its own."""
    options = [USUAL, *(() if identity == JUDGE else fitting(identity))]
    if geometry not in options:
        raise ValueError(
            f"{NODE}: expected geometry {' or '.join(options)} for {identity}, got {geometry}; change geometry."
        )


def load(identity: str, prompt: str, geometry: str = USUAL) -> Metrics:
    """Networks by their names. Raises ValueError for missing or broken weights.

    geometry: of the pictures that `identity` sees. `prompt` always sees them as CLIP does.
    """
    check_geometry(identity, geometry)
    found = (
        JudgeEncoder() if identity == JUDGE else _loaded(identity, usual(identity) if geometry == USUAL else geometry)
    )
    if prompt == NONE:
        return Metrics(Held(found))
    same = isinstance(found, Clip) and prompt == identity and found.geometry == GEOMETRIES[usual(prompt)]
    held = Held(found)
    return Metrics(held, held if same else Held(_loaded(prompt, usual(prompt))))


def usual(name: str) -> str:
    """Name of the geometry with which a network's published numbers were measured."""
    return "clip-224" if name.startswith("clip") else "imagenet-256-224"


def _loaded(name: str, geometry: str) -> Encoder:
    existing(name)
    try:
        found = encoders.load(name, folders(), GEOMETRIES[geometry])
        found.ready()
    except ValueError as error:
        raise ValueError(_sentence(error)) from error
    return found


def _sentence(error: Exception) -> str:
    return f"{NODE}: e{str(error)[1:]}"
