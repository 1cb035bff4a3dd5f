"""Queue of a farm: gives tasks to workers, a few at a time, and hands on what they make."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from ...demo.launcher.files import Problem
from .crew import AHEAD, Crew, Done, Lost, Ready
from .task import Outcome, Task

BLAME = 3
"""Workers that a task may lose before it is given up."""


class Farm:
    """Run of a crew over tasks.

    Tasks are taken as they are needed, so a long list need not exist. A task whose worker is lost goes to another one.
    Only this process hands on outcomes, so no task is handed on twice.
    """

    def __init__(self, tasks: Iterable[Task], crew: Crew, say: Callable[[str], Any] = print):
        self._tasks, self._crew, self._say = iter(tasks), crew, say
        self._again: deque[Task] = deque()
        self._flying: dict[int, list[Task]] = {}
        self._blamed: Counter[str] = Counter()
        self._alive = crew.size

    def run(self, done: Callable[[Task, Outcome], Any]) -> None:
        """Runs all tasks and ends the crew. Raises Problem where no worker is left."""
        first = next(self._tasks, None)
        if first is None:
            return
        self._again.append(first)
        try:
            self._crew.start()
            while self._again or any(self._flying.values()) or self._more():
                self._take(self._crew.wait(), done)
        finally:
            self._crew.stop()

    def _more(self) -> bool:
        """Looks for one more task; true where there is one."""
        if (task := next(self._tasks, None)) is None:
            return False
        self._again.append(task)
        return True

    def _take(self, event: Ready | Done | Lost, done: Callable[[Task, Outcome], Any]) -> None:
        worker = event.worker
        if isinstance(event, Ready):
            self._flying[worker] = []
            self._fill(worker)
        elif isinstance(event, Done):
            if event.task in self._flying.get(worker, ()):
                self._flying[worker].remove(event.task)
                done(event.task, event.outcome)  # before the next tasks are chosen, which may depend on it
                self._fill(worker)
        else:
            self._bury(event, done)

    def _fill(self, worker: int) -> None:
        flying = self._flying[worker]
        while len(flying) < AHEAD and (self._again or self._more()):
            task = self._again.popleft()
            flying.append(task)
            self._crew.give(worker, task)

    def _bury(self, lost: Lost, done: Callable[[Task, Outcome], Any]) -> None:
        back = self._flying.pop(lost.worker, [])
        if not lost.again:
            self._alive -= 1
        if back:
            suspect = back[0]  # the one that was being made
            self._blamed[suspect.name] += 1
            if self._blamed[suspect.name] == BLAME:
                del back[0]
                done(suspect, Outcome(error=f"{BLAME} workers were lost at this picture ({lost.reason})"))
        self._again.extendleft(reversed(back))
        if not self._alive:
            raise Problem(lost.reason)
        self._say(f"  worker {lost.worker} was lost: {lost.reason}")
        for worker in self._flying:
            self._fill(worker)
