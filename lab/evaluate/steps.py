"""Steps of an evaluation on one folder: drawing, scoring, and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from ..farm.crew import Crew
from ..farm.records import Records, whole
from . import generate, protocol, score
from .plan import Plan
from .projection import method
from .report import markdown, page, summary

PICTURE_MB = 0.45
"""Size of a picture of 512x512 pixels as PNG."""


def describe(plan: Plan) -> None:
    """Prints what a plan draws, and what it costs as far as that is measured."""
    state, counts = generate.state(plan), dict.fromkeys(plan.rows, 0)
    for job in plan.jobs():
        counts[job.row] += 1
    print(f"{plan.protocol.title}: {len(plan.subjects)} subjects, {len(counts)} rows, {state.total} pictures.")
    for name, count in counts.items():
        print(f"  {name}: {count} pictures")
    size = plan.protocol.sampling["width"] * plan.protocol.sampling["height"] / 512**2
    print(f"Disk: about {state.total * PICTURE_MB * size / 1000:.2f} GB.")
    print(f"Finished: {state.done}, failed: {len(state.failed)}, to draw: {len(state.todo)}.")
    left = state.left()
    if left is None:
        print("Time: not measured yet; `generate OUT --limit 3` draws 3 pictures of each row and tells it.")
    elif state.todo:
        print(f"Time: about {generate.duration(left)}, by the pictures that are finished.")


def draw(plan: Plan, crew: Callable[[], Crew], limit: int | None = None, retry: bool = False) -> None:
    """Draws what is left of a plan. crew: gives the workers, where there is anything to draw.

    Raises Problem where another run draws into the same folder.
    """
    with Records(plan.folder).held():
        state = generate.state(plan, retry)
        jobs = generate.chosen(state.todo, limit)
        print(f"{state.total} pictures: {state.done} finished, {len(state.failed)} failed, {len(jobs)} to draw now.")
        run = generate.Run(plan, jobs, len(jobs), lambda text: print(text, flush=True))
        if jobs:
            run.draw(crew())
        if run.failed:
            print(f"{len(run.failed)} failed; `generate OUT --retry-failed` draws them again.")
    describe(plan)


def scored(
    plan: Plan, preset: str | None = None, metrics: Sequence[str] = (), options: score.Options | None = None
) -> None:
    """Scores what is drawn."""
    chosen = protocol.load(preset).scoring(plan.protocol) if preset else plan.protocol
    print(f"written: {score.run(plan, chosen, metrics, options or score.Options())}")
    if sentence := summary.left(plan):
        print(sentence)


def reported(plans: Sequence[Plan], preset: str | None = None, against: str | None = None) -> None:
    """Writes the report of one folder, or of several into the first one."""
    found = summary.summary(summary.parts(plans, preset), against)
    for name, content in (
        ("result.json", json.dumps(found, indent=1)),
        ("report.md", markdown.markdown(found)),
        ("report.html", page.page(found, plans, method())),
    ):
        whole(plans[0].folder / name, content.encode())
        print(f"written: {(plans[0].folder / name).resolve()}")
    for plan in plans:
        if sentence := summary.left(plan):
            print(f"{plan.folder}: {sentence}")
