"""`run.py evaluate simulate`: the queue and the files of a large evaluation, with workers that only wait."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from PIL import Image

from ...demo.launcher.files import Problem
from ..farm.crew import Threads
from ..farm.task import Outcome, Task
from . import generate, plan, protocol

SUBJECTS, PROMPTS = 20, 25
CONTENT = b"\x89PNG" + bytes(2000)


class Waits:
    """Worker that waits in place of a GPU, and returns bytes that are no picture."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def start(self) -> None:
        pass

    stop = start

    def run(self, task: Task) -> Outcome:
        time.sleep(self.seconds)
        return Outcome(CONTENT + task.key.encode(), facts={"seconds": self.seconds, "attempts": 1, "device": "none"})


def make(out: Path, pictures: int) -> plan.Plan:
    """Plan of at least this many pictures: 20 subjects, 25 prompts, and as many seeds as it takes."""
    data = out / "data"
    for number in range(SUBJECTS):
        folder = data / f"subject{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "0.png")
        words = {"class": "dog", "token": "sks", "live": True}
        (folder / "subject.json").write_text(json.dumps(words), encoding="utf-8")
    lines = [f"a photo of a {{}} at place {number}" for number in range(PROMPTS)]
    (data / "prompts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    seeds = -(-pictures // (SUBJECTS * PROMPTS))
    facts = {**protocol.load("tinyland").facts, "images_per_prompt": seeds}
    return plan.make(
        out,
        protocol.checked(facts, "tinyland"),
        data=data,
        methods=["vanilla"],
        dials={},
        files={"checkpoint": "none.safetensors"},
        weights={},
        folders={},
    )


def run(out: Path, *, workers: int, pictures: int, seconds: float, within: float) -> dict[str, float]:
    """Figures of a run: its parts in seconds, pictures per second, megabytes, and files of the fullest folder.

    within: seconds after which no more pictures are begun. Raises Problem.
    """
    figures: dict[str, float] = {}
    started = time.monotonic(), time.process_time()

    def lap(name: str) -> float:
        nonlocal started
        before, started = started, (time.monotonic(), time.process_time())
        figures[f"{name}_s"], figures[f"{name}_cpu_s"] = (round(b - a, 2) for a, b in zip(before, started, strict=True))
        return started[0] - before[0]

    made = make(out, pictures)
    made.write()
    lap("plan")
    before = generate.state(made)
    lap("state_before")
    jobs, deadline = before.todo[:pictures], time.monotonic() + within

    def until() -> Iterator[plan.Job]:
        for job in jobs:
            if time.monotonic() > deadline:
                return
            yield job

    drawing = generate.Run(made, until(), len(jobs), lambda text: None)
    drawing.draw(Threads([Waits(seconds) for _ in range(workers)]))
    took = lap("draw")
    figures["drawn"] = drawing.count
    figures["pictures_per_s"] = round(drawing.count / took, 1)
    if seconds:
        figures["of_ideal"] = round(drawing.count * seconds / workers / took, 4)
    figures["driver_mb"] = round(psutil.Process().memory_info().rss / 2**20)
    if generate.state(made).done != before.done + drawing.count:
        raise Problem(f"{out} lacks pictures that were drawn: see whether its disk is whole.")
    lap("state_after")
    figures["files_in_a_folder"] = max(len(names) for _, _, names in os.walk(out / "images"))
    return figures
