"""Shipped workflows for real files, shortened for a CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..demo.launcher.client import Prompt
from .checkpoints import CHECKPOINTS
from .photos import NAMES

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows" / "api"
SIDES = {"sd15": 512, "sdxl": 1024}
SIDE, STEPS, PICTURES = 256, 4, 2
_STEPS = ("steps", "inversion_steps", "lambda_2", "lambda_3", "switch_step", "noise_levels", "end_at_step")


def workflows(family: str) -> dict[str, Prompt]:
    """API graphs of the shipped workflows that load this family's checkpoint, by name."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(WORKFLOWS.glob("*.json"))}
    return {name: prompt for name, prompt in found.items() if CHECKPOINTS[family] in set(_strings(prompt))}


def pictures(prompt: Prompt) -> set[str]:
    """Files that the graph's loaders of pictures and masks ask for."""
    loaders = [node for node in prompt.values() if node["class_type"].startswith("LoadImage")]
    return {node["inputs"]["image"] for node in loaders} | set(NAMES)


def shortened(prompt: Prompt, family: str) -> Prompt:
    """A copy with small pictures and few steps. Percentages stay."""
    short = json.loads(json.dumps(prompt))
    for node in short.values():
        for name, value in node["inputs"].items():
            if isinstance(value, int) and not isinstance(value, bool):
                node["inputs"][name] = _shorter(name, value, family)
        if node["class_type"] == "LikenessPromptList":
            node["inputs"]["text"] = "\n".join(node["inputs"]["text"].splitlines()[:PICTURES])
    return short


def _shorter(name: str, value: int, family: str) -> int:
    if name in ("width", "height"):
        return max(64, value * SIDE // SIDES[family] // 8 * 8)
    if name in _STEPS:
        return min(value, STEPS)
    return min(value, PICTURES) if name == "batch_size" else value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(inner)
