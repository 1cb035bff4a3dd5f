"""Trajectories with their banks, as safetensors files in ComfyUI's output folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..host.checks import single
from ..host.facts import layer, listed, mapped, named, number, numbers, parsed, tensor, text, truth, whole
from ..host.files import Store, conditioning_of, conditioning_parts
from .bank import FeatureBank, Key
from .trajectory import NEVER, Trajectory

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
    stated, bank = named(parsed(facts, "conditioning"), "conditioning"), FeatureBank()
    for entry in listed(parsed(facts, "features"), "features"):
        n, weights, kind, place, conditional, sigma = listed(entry, "an entry of features", 6)
        key = Key(
            text(weights, "weights"),
            text(kind, "kind"),
            layer(place, "a layer"),
            truth(conditional, "conditional"),
        )
        values = mapped(tensors, f"features.{whole(n, 'a number')}", 3)
        bank.put(key, number(sigma, "a noise level", 0.0), values)
    prompts = {
        name: conditioning_of(name, tensors, stated.get(name), LOAD)
        for name in (*_FINAL, *_VANILLA)
        if name in _FINAL or name in stated
    }
    sigmas = numbers(parsed(facts, "sigmas"), "noise levels", 0.0)
    latents = {name: tensor(tensors, name, 5, 6) for name in _LATENTS if name == "latents" or name in tensors}
    shape = (len(sigmas), *latents["latents"].shape[1:])
    for name, found in latents.items():
        if found.shape != shape:
            raise ValueError(f"{name} is {tuple(found.shape)} for {len(sigmas)} noise levels")
    return Trajectory(
        sigmas,
        bank=bank,
        **{name: tuple(found) for name, found in latents.items()},
        **prompts,
        **_run_of(facts, len(sigmas)),
    )


def _run_of(facts: dict[str, str], calls: int) -> dict[str, Any]:
    """Facts that a file states of its run; files of the first version lack some of it."""
    known = {name: parsed(facts, name) for name in _FACTS if name in facts}
    read: dict[str, Callable[[Any], Any]] = {
        "sampler": lambda value: text(value, "sampler"),
        "switch_sigma": lambda value: value if value == NEVER else number(value, "switch_sigma", 0.0, infinite=True),
        "schedule": lambda value: numbers(value, "schedule", 0.0),
        "starts": lambda value: tuple(whole(one, "starts", end=calls) for one in listed(value, "starts")),
        "seed": lambda value: None if value is None else whole(value, "seed"),
    }
    return {name: read[name](value) for name, value in known.items()}
