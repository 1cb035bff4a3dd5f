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

SAVE, LOAD = "LikenessSaveTrajectory", "LikenessLoadTrajectory"
STORE = Store(
    folder="likeness_trajectories",
    form="likeness_trajectory",
    version=1,
    what="trajectory",
    saver="Save Trajectory",
    loader=LOAD,
)


def save(trajectory: Trajectory, prefix: str) -> Path:
    """Writes a numbered file below the output folder and returns its path.

    Raises ValueError for an empty trajectory and for prompts that are more than one plain text.
    """
    if not len(trajectory):
        raise ValueError(f"{SAVE}: expected a trajectory with model calls, got an empty one; give its sampler steps.")
    tensors = {"latents": torch.stack(trajectory.latents), "denoised": torch.stack(trajectory.denoised)}
    numbers = {}
    for name, conditioning in (("positive", trajectory.positive), ("negative", trajectory.negative)):
        single(conditioning, SAVE)
        parts, numbers[name] = conditioning_parts(name, conditioning)
        tensors |= parts
    features = []
    for n, (key, sigma, values) in enumerate(trajectory.bank.items()):
        tensors[f"features.{n}"] = values
        features.append([n, key.weights, key.kind, list(key.layer), key.conditional, sigma])
    facts = {"sigmas": trajectory.sigmas, "conditioning": numbers, "features": features, "sampler": trajectory.sampler}
    facts["switch_sigma"] = trajectory.switch_sigma
    return STORE.write(prefix, tensors, {name: json.dumps(value) for name, value in facts.items()})


def load(name: str) -> Trajectory:
    """The trajectory of a saved file. Raises FileNotFoundError for a missing file, ValueError for a damaged one."""
    return STORE.read(name, _trajectory)


def _trajectory(tensors: dict[str, torch.Tensor], facts: dict[str, str]) -> Trajectory:
    numbers, bank = json.loads(facts["conditioning"]), FeatureBank()
    for n, weights, kind, layer, conditional, sigma in json.loads(facts["features"]):
        bank.put(Key(weights, kind, Layer(*layer), conditional), sigma, tensors[f"features.{n}"])
    positive, negative = (conditioning_of(name, tensors, numbers[name], LOAD) for name in ("positive", "negative"))
    sigmas, latents, denoised = (
        tuple(json.loads(facts["sigmas"])),
        tuple(tensors["latents"]),
        tuple(tensors["denoised"]),
    )
    if not len(sigmas) == len(latents) == len(denoised):
        raise ValueError(f"{len(sigmas)} noise levels, {len(latents)} latents")
    # Files of the first version lack both.
    sampler, switch_sigma = json.loads(facts.get("sampler", '""')), json.loads(facts.get("switch_sigma", "Infinity"))
    return Trajectory(
        sigmas,
        latents,
        denoised,
        positive=positive,
        negative=negative,
        bank=bank,
        sampler=sampler,
        switch_sigma=switch_sigma,
    )
