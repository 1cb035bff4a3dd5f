"""Drawing of a plan's pictures, resumable after any interruption."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...demo.launcher.files import Problem
from ..farm.crew import Crew
from ..farm.farm import Farm
from ..farm.records import Records
from ..farm.task import Outcome, Task
from .plan import Job, Plan, uploaded

GIVE_UP = 3
"""Errors after which a row without a single picture is given up for this run."""
SAID_EVERY = 1.0
"""Seconds between two lines on the progress."""


def task(plan: Plan, job: Job) -> Task:
    """Task of a job. Raises Problem for a photo that went away."""
    template, inputs = plan.rows[job.row].template, {}
    for index in job.inputs if template.references else ():
        photo = plan.subjects[job.subject].photos[index]
        if not Path(photo.file).is_file():
            raise Problem(f"The photo {photo.file} is missing: put it back, or plan again.")
        inputs[uploaded(photo.file, photo.hash)] = photo.file
    return Task(job.name, plan.key(job), plan.graph(job), template.output, inputs)


@dataclass
class State:
    """Counts of a plan's jobs. seconds: of each row's finished pictures."""

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    todo: list[Job] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.done + len(self.failed) + len(self.todo)

    def left(self) -> float | None:
        """Estimate of the seconds that the jobs to do take; None while a row has no picture."""
        medians = {row: statistics.median(values) for row, values in self.seconds.items()}
        if any(job.row not in medians for job in self.todo):
            return None
        return sum(medians[job.row] for job in self.todo)


def state(plan: Plan, retry: bool = False) -> State:
    """State of a plan's jobs on the disk. retry: jobs that failed are to be done again."""
    survey, found = Records(plan.folder).survey(), State()
    for job in plan.jobs():
        key = plan.key(job)
        if record := survey.record(job.name, key):
            found.done += 1
            found.seconds.setdefault(job.row, []).append(record["seconds"])
        elif (error := survey.error(job.name, key)) and not retry:
            found.failed[job.name] = error["error"]
        else:
            found.todo.append(job)
    return found


def chosen(todo: Iterable[Job], limit: int | None) -> list[Job]:
    """The first `limit` jobs of each row; all of them without a limit."""
    counts: dict[str, int] = {}
    jobs = []
    for job in todo:
        counts[job.row] = counts.get(job.row, 0) + 1
        if limit is None or counts[job.row] <= limit:
            jobs.append(job)
    return jobs


class Run:
    """Run of jobs. A row whose first pictures all fail is given up, since the others would fail, too.

    total: number of the jobs. count: of those that are done. failed: sentences of the others, by name.
    """

    def __init__(self, plan: Plan, jobs: Iterable[Job], total: int, say: Callable[[str], Any] = print):
        self.plan, self.jobs, self.total, self.say = plan, jobs, total, say
        self.failed: dict[str, str] = {}
        self._records = Records(plan.folder)
        self._made: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self.count, self._started, self._said = 0, time.monotonic(), 0.0

    def draw(self, crew: Crew) -> None:
        """Draws the pictures. Raises Problem."""
        Farm(self._tasks(), crew, self.say).run(self._done)

    def _tasks(self) -> Iterator[Task]:
        for job in self.jobs:
            if not self._given_up(job.row):
                yield task(self.plan, job)

    def _given_up(self, row: str) -> bool:
        return self._errors.get(row, 0) >= GIVE_UP and not self._made.get(row)

    def _done(self, task: Task, outcome: Outcome) -> None:
        self._records.finish(task, outcome)
        row = task.name.partition("/")[0]
        self.count += 1
        if outcome.error:
            self.failed[task.name] = outcome.error
            self._errors[row] = self._errors.get(row, 0) + 1
            self.say(f"  {task.name}: {outcome.error}")
            if self._errors[row] == GIVE_UP and self._given_up(row):
                self.say(f"  {row}: its first {GIVE_UP} pictures failed, so the others are left out of this run")
        else:
            self._made[row] = self._made.get(row, 0) + 1
        self._progress(task.name)

    def _progress(self, name: str) -> None:
        now = time.monotonic()
        if now - self._said < SAID_EVERY and self.count < self.total:
            return
        self._said = now
        left = (now - self._started) / self.count * (self.total - self.count)
        self.say(f"{self.count}/{self.total} {name}, about {duration(left)} left")


def duration(seconds: float) -> str:
    """Duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
