"""Workflows of the stages: those in workflows/s3, and any graph that a user saves in API format with named slots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...demo.launcher.files import ROOT, Problem
from ..evaluate.templates import Template, read

FOLDER = ROOT / "workflows" / "s3"
SLOTS = {
    "prompt": "the text to draw, or to ask",
    "thing": "the name of the object",
    "seed": "the seed of the picture",
    "width": "the width of the collage",
    "height": "its height",
    "size": "the side of a member",
    "picture": "the picture that the stage starts from",
    "weights": "the file given with --weights STAGE=FILE",
}
SHOWS = ("SaveImage", "PreviewImage", "PreviewAny")
NEEDED = {
    "prompts": ("prompt",),
    "collage": ("prompt", "seed"),
    "segment": ("picture",),
    "inpaint": ("picture", "prompt", "seed"),
    "restyle": ("picture", "prompt", "seed"),
    "caption": ("picture",),
}
"""Slots without which a stage's workflow cannot work."""


def names(stage: str) -> list[str]:
    """Bundled workflows of a stage, without the stage's name."""
    return sorted(path.stem.partition("-")[2] for path in FOLDER.glob(f"{stage}-*.json"))


def load(stage: str, name: str, weights: str = "") -> dict[str, Any]:
    """Facts of a stage that a workflow does: its graph, with the weights filled in. Raises Problem."""
    own = name.endswith(".json")
    path = Path(name).expanduser() if own else FOLDER / f"{stage}-{name}.json"
    if not path.is_file():
        raise Problem(
            f"There is no workflow {name} of the stage {stage}: use {', '.join(names(stage))}, or a workflow saved in "
            "API format."
        )
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Problem(f"The workflow {path} is not JSON ({error}): save it in API format.") from error
    template = read(path.stem, graph, SLOTS, "workflow", SHOWS)
    if missing := [slot for slot in NEEDED[stage] if slot not in template.names]:
        raise Problem(
            f"The workflow {name} of the stage {stage} has no slot {missing[0]}: write [INPUT={missing[0]}] at the end "
            "of a node's title."
        )
    if weights:
        if "weights" not in template.names:
            raise Problem(f"The workflow {name} of the stage {stage} has no slot weights: choose the file in it.")
        for node, key, slot in template.slots:
            if slot == "weights":
                graph[node]["inputs"][key] = weights
    return {"by": "workflow", "name": path.stem, "graph": graph}


def template(facts: dict[str, Any]) -> Template:
    """Template of a stage's facts."""
    found = read(facts["name"], facts["graph"], SLOTS, "workflow", SHOWS)
    slots = tuple(slot for slot in found.slots if slot[2] != "weights")  # filled in by the plan
    return Template(found.name, found.graph, slots, found.output)
