"""Worker of a farm: makes one task after another on one server."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ...demo.launcher.client import Prompt
from ...demo.launcher.install import cache_folder
from .attempts import Attempts, GivenUp
from .servers import LOST, Blameless, OwnServer
from .task import Outcome, Task

TIMEOUT = 1800.0
"""Seconds that a picture may take."""
Contents = Mapping[str, Callable[[], bytes]]
"""Readers of a task's input files, by their names among the server's inputs."""


class Draws(Protocol):
    """Server as a worker uses it."""

    def start(self) -> None: ...
    def restart(self) -> None: ...
    def stop(self) -> None: ...
    def about(self) -> dict[str, str]: ...
    def lend(self, name: str, content: Callable[[], bytes]) -> None: ...
    def draw(self, graph: Prompt, output: str, timeout: float) -> bytes: ...


def contents(task: Task) -> Contents:
    """Readers of the files on this machine."""
    return {name: Path(path).read_bytes for name, path in task.inputs.items()}


class Worker:
    """Makes tasks on one server. A node's error is an outcome; a lost server of ours is started again.

    Several threads may run tasks: the server has one at a time, and the others wait for it or fetch their pictures.
    """

    def __init__(self, server: Draws, timeout: float = TIMEOUT):
        self.server, self.timeout = server, timeout
        self._about: dict[str, str] | None = None
        self._attempts = Attempts(server)

    def start(self) -> None:
        """Starts the server, or asks whether it answers. Raises Problem."""
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def run(self, task: Task, inputs: Contents | None = None) -> Outcome:
        """Outcome of a task. Raises Problem where the worker can make no other task, either."""
        started = time.monotonic()
        lent = contents(task) if inputs is None else inputs
        try:
            (content, about), attempts = self._attempts.run(lambda: self._draw(task, lent))
        except GivenUp as error:
            return Outcome(error=str(error))
        facts = {
            "seconds": round(time.monotonic() - started, 3),
            "attempts": attempts,
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            **about,
        }
        return Outcome(content, facts=facts)

    def _draw(self, task: Task, inputs: Contents) -> tuple[bytes, dict[str, str]]:
        """Picture, and facts of the server."""
        try:
            for name, content in inputs.items():
                self.server.lend(name, content)
        except LOST as error:
            raise Blameless(str(error)) from error
        content = self.server.draw(task.graph, task.output, self.timeout)
        if self._about is None:
            self._about = self.server.about()
        return content, self._about


def own(base: str, folders: Mapping[str, str], cpu: bool) -> Worker:
    """Worker with a ComfyUI of its own. base: its folder; a relative one is below the cache of its machine."""
    return Worker(OwnServer(cache_folder() / "farm" / base, folders, cpu))
