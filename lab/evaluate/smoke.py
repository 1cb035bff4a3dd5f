"""`run.py evaluate --smoke`: every step of an evaluation on the demo model, without any download."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from ...demo.world.captions import PLACE_PHRASES, PLACEHOLDER
from ...demo.world.scene import render
from ...demo.world.subjects import SUBJECTS
from ..farm import options as farm
from . import plan, protocol, steps

NAMES = ("nemo", "taxi")
PLACES = ("sea", "city")
METHODS = ("lora", "vanilla", "layout-and-retouch", "pick-and-draw", "jedi")
DIALS = {"lora": (0.5, 1.0)}
DEMO_NODES = {"CheckpointLoaderSimple": "LikenessDemoModel", "LikenessLoadJointCheckpoint": "LikenessDemoJointModel"}
"""Loaders of the methods' workflows, and the nodes that take their place."""


def write_data(folder: Path) -> Path:
    """Writes photos, words and prompts of two bundled subjects as a user's data folder has them."""
    for name in NAMES:
        subject = SUBJECTS[name]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, scene in enumerate(subject.training_scenes()):
            Image.fromarray(render(scene).image).save(folder / name / f"{i}.png")
        words = {"class": subject.subject.name, "token": PLACEHOLDER, "live": False}
        (folder / name / "subject.json").write_text(json.dumps(words), encoding="utf-8")
    lines = [f"a photo of a {{}} {PLACE_PHRASES[place]}" for place in PLACES]
    (folder / "prompts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make(out: Path) -> plan.Plan:
    """Plan of the smoke test."""
    return plan.make(
        out,
        protocol.load("tinyland"),
        data=write_data(out / "data"),
        methods=METHODS,
        dials=DIALS,
        files={},
        weights={},
        folders={},
        replace=DEMO_NODES,
    )


def run(out: Path, options: argparse.Namespace) -> None:
    """Plans, draws, scores and reports. options: of the farm. Raises Problem."""
    farm.check(options)
    made = make(out)
    made.write()
    steps.draw(made, lambda: farm.crew(options, out.resolve() / "work", {}, cpu=True))
    steps.scored(made)
    steps.reported([made])
