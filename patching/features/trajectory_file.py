"""Trajectories with their banks, as safetensors files in ComfyUI's output folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..host.blocks import Layer
from ..host.checks import single
from ..host.files import Store, conditioning_of, conditioning_parts
from .bank import FeatureBank, Key
from .trajectory import Trajectory

SAVE, LOAD = "Save Layout", "Load Layout"
STORE = Store(
    folder="likeness_trajectories",
    form="likeness_trajectory",
    version=1,
    what="trajectory",
    saver="Save Layout",
    loader=LOAD,
)

_LATENTS = ("latents", "denoised", "conditional", "unconditional")
_FINAL = ("positive", "negative")
_VANILLA = ("vanilla_positive", "vanilla_negative")
_FACTS = ("sampler", "switch_sigma", "schedule", "starts", "seed")


def save(trajectory: Trajectory, prefix: str) -> Path:
    """Writes a numbered file below the output folder and returns its path.

    Raises ValueError for an empty trajectory and for prompts that are more than one plain text.
    """
    if not len(trajectory):
        raise ValueError(f"{SAVE}: expected a trajectory with model calls, got an empty one; give its sampler steps.")
    tensors = {name: torch.stack(getattr(trajectory, name)) for name in _LATENTS if getattr(trajectory, name)}
    numbers = {}
    prompts = {name: getattr(trajectory, name) for name in (*_FINAL, *_VANILLA)}
    for name, conditioning in prompts.items():
        if name in _FINAL:
            single(conditioning, SAVE)
        elif len(conditioning) != 1:
            continue  # a later run asks for it where it needs it
        parts, numbers[name] = conditioning_parts(name, conditioning)
        tensors |= parts
    features = []
    for n, (key, sigma, values) in enumerate(trajectory.bank.items()):
        tensors[f"features.{n}"] = values
        features.append([n, key.weights, key.kind, list(key.layer), key.conditional, sigma])
    facts = {"sigmas": trajectory.sigmas, "conditioning": numbers, "features": features}
    facts |= {name: getattr(trajectory, name) for name in _FACTS}
    return STORE.write(prefix, tensors, {name: json.dumps(value) for name, value in facts.items()})


def load(name: str) -> Trajectory:
    """The trajectory of a saved file. Raises FileNotFoundError for a missing file, ValueError for a damaged one."""
    return STORE.read(name, _trajectory)


def _trajectory(tensors: dict[str, torch.Tensor], facts: dict[str, str]) -> Trajectory:
    numbers, bank = json.loads(facts["conditioning"]), FeatureBank()
    for n, weights, kind, layer, conditional, sigma in json.loads(facts["features"]):
        bank.put(Key(weights, kind, Layer(*layer), conditional), sigma, tensors[f"features.{n}"])
    prompts = {
        name: conditioning_of(name, tensors, numbers[name], LOAD) for name in (*_FINAL, *_VANILLA) if name in numbers
    }
    latents = {name: tuple(tensors[name]) for name in _LATENTS if name in tensors}
    sigmas = tuple(json.loads(facts["sigmas"]))
    if any(len(sigmas) != len(found) for found in latents.values()):
        raise ValueError(f"{len(sigmas)} noise levels, {len(latents['latents'])} latents")
    # Files of the first version lack some of them.
    known = {name: json.loads(facts[name]) for name in _FACTS if name in facts}
    known |= {name: tuple(known[name]) for name in ("schedule", "starts") if name in known}
    return Trajectory(sigmas, bank=bank, **latents, **prompts, **known)
