"""Shipped workflows for real files, shortened for a CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..demo.launcher.client import Prompt
from .checkpoints import CHECKPOINTS
from .photos import NAMES
from .transformer_files import FAMILIES

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows" / "api"
SIDES = {"sd15": 512, "sdxl": 1024, "sd35": 1024, **{name: family.side for name, family in FAMILIES.items()}}
SIDE, STEPS, PICTURES = 128, 4, 2
_MOST = {
    "steps": STEPS,
    "lambda_2": STEPS,
    "lambda_3": STEPS,
    "switch_step": STEPS,
    "end_at_step": STEPS,
    "inversion_steps": 2,
    "noise_levels": 2,
    "batch_size": PICTURES,
}
_OWN_SIZE = "own size"
_SCHEDULERS = {"ddim_uniform": "normal"}
"""With four steps, the first of ddim_uniform begins too late for the layout of a retouch."""


def workflows(family: str) -> dict[str, Prompt]:
    """API graphs of the shipped workflows that load this family's checkpoint or network, by name."""
    file = FAMILIES[family].network.name if family in FAMILIES else CHECKPOINTS[family]
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(WORKFLOWS.glob("*.json"))}
    return {name: prompt for name, prompt in found.items() if file in set(_strings(prompt))}


def pictures(prompt: Prompt) -> set[str]:
    """Files that the graph's loaders of pictures and masks ask for."""
    loaders = [node for node in prompt.values() if node["class_type"].startswith("LoadImage")]
    return {node["inputs"]["image"] for node in loaders} | set(NAMES)


def shortened(prompt: Prompt, family: str) -> Prompt:
    """A copy with small pictures and few steps. Percentages stay.

    References keep the size of their files, because those at the size of training take minutes.
    """
    short, scale = json.loads(json.dumps(prompt)), SIDE / SIDES[family]
    for node in short.values():
        inputs = node["inputs"]
        for name, value in inputs.items():
            if name in ("width", "height") and isinstance(value, int):
                inputs[name] = max(64, int(value * scale) // 8 * 8)
            elif name == "megapixels":
                inputs[name] = value * scale**2
            elif name in _MOST and isinstance(value, int):
                inputs[name] = min(value, _MOST[name])
            elif name == "size" and isinstance(value, str):
                inputs[name] = _OWN_SIZE
            elif name == "scheduler" and isinstance(value, str):
                inputs[name] = _SCHEDULERS.get(value, value)
        if node["class_type"] == "LikenessPromptList":
            inputs["text"] = "\n".join(inputs["text"].splitlines()[:PICTURES])
    return short


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(inner)
