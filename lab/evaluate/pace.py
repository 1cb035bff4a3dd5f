"""`run.py evaluate pace`: pictures per minute of several workers beside those of one, on the demo's model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...demo.launcher.files import Problem
from ..farm.crew import Crew
from ..farm.records import Records
from . import generate, plan, protocol
from .simulate import Timed
from .smoke import DEMO_NODES, write_data

RUNS = 4
"""One worker, several, several, one: what slows the machine down meanwhile slows both alike."""


def make(out: Path, pictures: int) -> plan.Plan:
    """Plan of at least this many pictures of the demo's model for each run."""
    facts = protocol.load("tinyland").facts
    data = write_data(out / "data")
    cells = sum(1 for folder in data.iterdir() if folder.is_dir()) * 2  # subjects in two places
    facts = {**facts, "images_per_prompt": -(-RUNS * pictures // cells)}
    return plan.make(
        out,
        protocol.checked(facts, "tinyland"),
        data=data,
        methods=["vanilla"],
        dials={},
        files={},
        weights={},
        folders={},
        replace=DEMO_NODES,
    )


def run(out: Path, workers: int, pictures: int, crew: Callable[[int, Path], Crew]) -> dict[str, float]:
    """Figures: pictures per minute of one worker and of several, and their ratio. Raises Problem.

    crew: gives a number of workers with a folder for their servers. The last half of each run counts.
    """
    if workers < 2 or pictures <= 2 * workers:
        raise Problem(
            f"pace compares two workers or more with one, on more than twice as many pictures; got {workers} workers "
            f"and {pictures} pictures: raise --workers or --pictures."
        )
    made = make(out, pictures)
    made.write()
    with Records(out).held():
        jobs = generate.state(made).todo
        if len(jobs) < RUNS * pictures:
            raise Problem(f"{out} has pictures of an earlier measurement: name a new folder with --out.")
        seconds = {1: 0.0, workers: 0.0}
        for number, size in enumerate((1, workers, workers, 1)):
            part = jobs[number * pictures : (number + 1) * pictures]
            drawing = Timed(made, part, len(part), lambda text: None)
            drawing.draw(crew(size, out.resolve() / "work"))
            if drawing.failed:
                raise Problem(f"A picture failed ({next(iter(drawing.failed.values()))}): mend this first.")
            seconds[size] += 1 / drawing.pace(size)
            print(f"{size} workers: {60 * drawing.pace(size):.1f} pictures a minute", flush=True)
    found = {size: RUNS / 2 * 60 / spent for size, spent in seconds.items()}
    return {"one_per_minute": found[1], f"{workers}_per_minute": found[workers], "ratio": found[workers] / found[1]}
