"""The demo's scenes as tasks of a farm: one of each scene and workflow, resumable after any interruption."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...demo import picture, sheet
from ...demo.launcher.files import ROOT, Problem, digest
from ...demo.world.scene import PLACES
from ...demo.world.subjects import SUBJECTS
from ..farm import options as farm
from ..farm.farm import Farm
from ..farm.records import Records
from ..farm.strips import parted, strip_of
from ..farm.task import Outcome, Task, key_of

Scene = tuple[str, str]
"""Subject and place."""
SUBJECTS_SHOWN, SCENES_SHOWN = ("nemo", "taxi", "amanita", "valentine"), 3
FULL: tuple[Scene, ...] = tuple(
    (name, PLACES[(PLACES.index(SUBJECTS[name].place) + step) % len(PLACES)])
    for name in SUBJECTS_SHOWN
    for step in range(1, SCENES_SHOWN + 1)
)
"""Four subjects in the places after the one of their photos."""


def drawing() -> str:
    """Digest of the code and the weights that draw; other ones draw anew."""
    code = (path for part in ("nodes", "patching", "kernels") for path in (ROOT / part).rglob("*.py"))
    return digest(*sorted(code), *sorted((ROOT / "demo" / "weights").rglob("*.safetensors")))


def tasks(scenes: Sequence[Scene]) -> list[Task]:
    found, drawn_by = [], drawing()
    for name, place in scenes:
        for workflow, nodes in picture.nodes().items():
            graph, output = picture.prompt(workflow, name, place), strip_of(nodes)
            key = key_of(graph, output, drawn_by)
            found.append(Task(f"{workflow}/{name}/{place}", key, graph, output))
    return found


def run(output: Path, scenes: tuple[Scene, ...], options: argparse.Namespace) -> None:
    """Draws what is missing in the folder `output`, and writes the demo's picture and report. Raises Problem."""
    farm.check(options)
    started, eye = time.monotonic(), picture.load_judge()
    output.mkdir(parents=True, exist_ok=True)
    records, wanted = Records(output), tasks(scenes)
    with records.held():
        survey = records.survey()
        left = [task for task in wanted if not survey.record(task.name, task.key)]
        _say(f"{len(wanted)} runs: {len(wanted) - len(left)} finished, {len(left)} to draw.")
        count = 0

        def done(task: Task, outcome: Outcome) -> None:
            nonlocal count
            if outcome.error:
                raise Problem(outcome.error)
            records.finish(task, outcome)
            count += 1
            _say(f"{count}/{len(left)} {task.name}")

        if left:
            crew = farm.crew(options, output.resolve() / "work", {}, cpu=True, say=_say)
            Farm(left, crew, _say).run(done)
        rows = [picture.judged(eye, *scene, _pictures(records, scene)) for scene in scenes]
    picture.write(output, rows, time.monotonic() - started, None if scenes == picture.SCENES else sheet.compose)


def _pictures(records: Records, scene: Scene) -> dict[picture.Column, np.ndarray]:
    """Pictures of a scene by column."""
    name, place = scene
    found: dict[tuple[str, str], np.ndarray] = {}
    for workflow, nodes in picture.nodes().items():
        shown = parted(records.picture(f"{workflow}/{name}/{place}").read_bytes())
        found |= {(workflow, node): pixels for node, pixels in zip(nodes, shown, strict=True)}
    return {column: found[column.workflow, column.node] for column in (picture.REFERENCES, *picture.COLUMNS)}


def _say(text: str) -> None:
    print(text, flush=True)
