"""Drawing of a plan's pictures, one job at a time, resumable after any interruption."""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ...demo.launcher.client import Failed, Interrupted, Rejected
from ...demo.launcher.files import Problem
from .plan import Job, Plan, uploaded
from .records import Records
from .servers import LOST
from .templates import Graph

ATTEMPTS = 3
GIVE_UP = 3
"""Errors after which a row without a single picture is given up for this run."""


class Draws(Protocol):
    """Server as a worker uses it."""

    def restart(self) -> None: ...
    def about(self) -> dict[str, str]: ...
    def lend(self, name: str, path: Path) -> None: ...
    def draw(self, graph: Graph, output: str, timeout: float) -> bytes: ...


class Worker:
    """Makes one job after another on one server. A node's error is a result; a lost server of ours is started again."""

    def __init__(self, plan: Plan, server: Draws, timeout: float = 1800.0):
        self.plan, self.server, self.timeout = plan, server, timeout
        self.records = Records(plan.folder)
        self._about: dict[str, str] | None = None

    def run(self, job: Job) -> str:
        """Makes the picture of a job; returns an empty text, or the sentence of its error. Raises Problem."""
        key, started, again = self.plan.key(job), time.monotonic(), False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                content = self._draw(job)
                if self._about is None:
                    self._about = self.server.about()
                break
            except (Failed, Rejected) as error:
                if not again and _out_of_memory(str(error)):
                    again = True
                    self.server.restart()
                    continue
                self.records.fail(job, key, str(error))
                return str(error)
            except Interrupted as error:
                raise Problem(f"{error}: run the same command again to go on.") from error
            except LOST as error:
                if attempt == ATTEMPTS:
                    raise Problem(
                        f"The server was lost {ATTEMPTS} times at {job.name} ({error}): look at its log, and run the "
                        "same command again."
                    ) from error
                with suppress(*LOST):
                    self.server.restart()
        else:
            self.records.fail(job, key, "out of memory, also after a restart of the server")
            return "out of memory"
        facts = {
            "seconds": round(time.monotonic() - started, 3),
            "attempts": attempt,
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            **self._about,
        }
        self.records.finish(job, key, content, facts)
        return ""

    def _draw(self, job: Job) -> bytes:
        template = self.plan.rows[job.row].template
        if template.references:
            for index in job.inputs:
                photo = self.plan.subjects[job.subject].photos[index]
                if not Path(photo.file).is_file():
                    raise Problem(f"The photo {photo.file} is missing: put it back, or plan again.")
                self.server.lend(uploaded(photo.file, photo.hash), Path(photo.file))
        return self.server.draw(self.plan.graph(job), template.output, self.timeout)


def _out_of_memory(sentence: str) -> bool:
    return "out of memory" in sentence.lower() or "allocation on device" in sentence.lower()


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
    records, found = Records(plan.folder), State()
    for job in plan.jobs():
        key = plan.key(job)
        if record := records.record(job.name, key):
            found.done += 1
            found.seconds.setdefault(job.row, []).append(record["seconds"])
        elif (error := records.error(job.name, key)) and not retry:
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


def run(jobs: list[Job], run_job: Callable[[Job], str], say: Callable[[str], Any] = print) -> dict[str, str]:
    """Runs jobs in order; returns the sentences of those that failed, by name.

    A row whose first jobs all fail is given up, since the others would fail, too.
    """
    failed: dict[str, str] = {}
    made: dict[str, int] = {}
    errors: dict[str, int] = {}
    started = time.monotonic()
    for number, job in enumerate(jobs, 1):
        if errors.get(job.row, 0) >= GIVE_UP and not made.get(job.row):
            continue
        sentence = run_job(job)
        if sentence:
            failed[job.name] = sentence
            errors[job.row] = errors.get(job.row, 0) + 1
            say(f"  {job.name}: {sentence}")
            if errors[job.row] == GIVE_UP and not made.get(job.row):
                say(f"  {job.row}: its first {GIVE_UP} pictures failed, so the others are left out of this run")
        else:
            made[job.row] = made.get(job.row, 0) + 1
        pace = (time.monotonic() - started) / number
        say(f"{number}/{len(jobs)} {job.name}, about {duration(pace * (len(jobs) - number))} left")
    return failed


def duration(seconds: float) -> str:
    """Duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
