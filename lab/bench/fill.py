"""Drawing of a benchmark's cells by workers, before the benchmark itself scores and measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...demo.launcher.files import Problem, replacing
from ..evaluate.generate import duration
from ..farm.crew import Crew
from ..farm.farm import Farm
from ..farm.records import spared
from ..farm.task import Outcome, Task
from .cells import named, task

if TYPE_CHECKING:
    from ...benchmarks.sweep import Sweep

SAID_EVERY = 5.0
"""Seconds between two lines on the progress."""


class Fill:
    """Run over the cells that the benchmark's cache lacks. This process alone writes them, each whole."""

    def __init__(self, sweeps: Mapping[str, Sweep], say: Callable[[str], Any] = print):
        self._say = say
        cells = {name: path for name, (path, _, _) in named(sweeps).items()}
        self._left = {name: path for name, path in cells.items() if not path.exists()}
        self.all, self.total, self.count = len(cells), len(self._left), 0
        self._started, self._said = time.monotonic(), 0.0

    def run(self, crew: Callable[[], Crew]) -> None:
        """Draws what is left. crew: gives the workers, where there is anything to draw. Raises Problem."""
        self._say(f"{self.all} cells: {self.all - self.total} kept, {self.total} to draw.")
        if self._left:
            Farm((task(name) for name in list(self._left)), crew(), self._say).run(self._done)

    def _done(self, task: Task, outcome: Outcome) -> None:
        if outcome.error:
            raise Problem(f"The cell {task.name} cannot be drawn ({outcome.error}): run the same command again.")
        path = self._left.pop(task.name)
        with spared(path.parent), replacing(path) as temporary:
            temporary.write_bytes(outcome.content)
        self.count += 1
        now = time.monotonic()
        if now - self._said > SAID_EVERY or not self._left:
            self._said = now
            left = (now - self._started) / self.count * (self.total - self.count)
            self._say(f"{self.count}/{self.total} cells, about {duration(left)} left")
