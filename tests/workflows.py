"""The shipped workflows, whole or shortened to a few steps and two pictures.

A name that starts with a numeral is shown in the template browser. 0 needs no files; the others ask for a checkpoint
and pictures.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "workflows"
NAMES = sorted(path.stem for path in (FOLDER / "api").glob("[!0-9]*.json"))
"""Workflows of the demo model, at least one for each node."""
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.json"))
"""Workflows in the template browser."""
SHORT = {"steps": 3, "switch_step": 2, "batch_size": 2, "lambda_2": 2, "lambda_3": 2}
"""Shorter values of inputs, by their names, which agree with each other."""


def api(name: str) -> dict:
    """API format of a shipped workflow."""
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def ui(name: str) -> dict:
    """UI format of a shipped workflow."""
    return json.loads(ui_file(name).read_text(encoding="utf-8"))


def ui_file(name: str) -> Path:
    """File of a workflow in UI format."""
    return FOLDER / f"{name}.json" if name[0].isdigit() else FOLDER / "demo" / f"{name}.json"


def shortened(prompt: dict) -> dict:
    """The API-format prompt, changed in place: inputs of SHORT, no inverted palettes, two prompts of a list at most."""
    for entry in prompt.values():
        entry["inputs"] |= {name: value for name, value in SHORT.items() if name in entry["inputs"]}
        if entry["class_type"] == "LikenessReference":
            entry["inputs"]["inversion_steps"] = SHORT["steps"]
        if entry["class_type"] == "AppearancePalette":
            entry["inputs"]["source"] = "noised"  # an inversion has 50 levels there
        if entry["class_type"] == "LikenessPromptList":
            entry["inputs"]["text"] = "\n".join(entry["inputs"]["text"].splitlines()[:2])
    return prompt


def covering(wanted: set[str]) -> list[str]:
    """Names of few workflows that contain every node of `wanted`, greedily chosen."""
    nodes = {name: wanted & {entry["class_type"] for entry in api(name).values()} for name in NAMES}
    chosen: list[str] = []
    while missing := wanted - set().union(*(nodes[name] for name in chosen)):
        best = max(NAMES, key=lambda name: len(nodes[name] & missing))
        assert nodes[best] & missing, f"no workflow has {sorted(missing)}"
        chosen.append(best)
    return chosen
