"""`run.py evaluate simulate`: the queue and the files of a large evaluation, with workers that only wait."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from ...benchmarks.processes import status_bytes
from ...demo.launcher.files import Problem
from ..farm.actors import Actors
from ..farm.crew import Crew, Threads
from ..farm.task import Outcome, Task
from . import generate, plan, protocol

SUBJECTS, PROMPTS = 20, 25
CONTENT = b"\x89PNG" + bytes(2000)


class Waits:
    """Worker that waits in place of a GPU, for one picture at a time, and returns bytes that are none."""

    def __init__(self, seconds: float):
        self.seconds, self._one = seconds, threading.Lock()

    def start(self) -> None:
        pass

    stop = start

    def run(self, task: Task, inputs: Any = None) -> Outcome:
        with self._one:
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


class Timed(generate.Run):
    """Run that notes when each picture was done."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.times: list[float] = []

    def _done(self, task: Task, outcome: Outcome) -> None:
        super()._done(task, outcome)
        self.times.append(time.monotonic())

    def pace(self, workers: int) -> float:
        """Pictures per second of the last half, when all workers have started; 0 if there are too few."""
        after = len(self.times) // 2 // workers * workers  # whole rounds, since workers may end theirs together
        return after / (self.times[-1] - self.times[-1 - after]) if after else 0.0


def crew(workers: int, seconds: float, ray: str | None) -> Crew:
    """Workers that wait, in this process or on Ray. Raises Problem."""
    if ray is None:
        return Threads([Waits(seconds) for _ in range(workers)])
    arguments = {"seconds": seconds}
    return Actors(ray, "lab.evaluate.simulate:Waits", lambda _number: arguments, size=workers, per_gpu=None)


def run(
    out: Path, *, workers: int, pictures: int, seconds: float, within: float, ray: str | None = None
) -> dict[str, float]:
    """Figures of a run: its parts in seconds, pictures per second, megabytes, and files of the fullest folder.

    within: seconds after which no more pictures are begun. overhead: of a picture, as a share of its seconds.
    state_after: what the next run needs before it goes on. Raises Problem.
    """
    figures: dict[str, float] = {}
    started = time.monotonic(), time.process_time()
    before_all = psutil.Process().memory_info().rss

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

    drawing = Timed(made, until(), len(jobs), lambda text: None)
    drawing.draw(crew(workers, seconds, ray))
    took = lap("draw")
    figures["drawn"] = drawing.count
    figures["pictures_per_s"] = round(drawing.count / took, 1)
    if seconds and (pace := drawing.pace(workers)):
        figures["overhead"] = round(workers / seconds / pace - 1, 4)
    if generate.state(made).done != before.done + drawing.count:
        raise Problem(f"{out} lacks pictures that were drawn: see whether its disk is whole.")
    lap("state_after")
    peak = status_bytes(os.getpid(), "VmHWM") or psutil.Process().memory_info().rss
    figures["driver_peak_mb"], figures["driver_grown_mb"] = round(peak / 2**20), round((peak - before_all) / 2**20)
    figures["files_in_a_folder"] = max(len(names) for _, _, names in os.walk(out / "images"))
    return figures
