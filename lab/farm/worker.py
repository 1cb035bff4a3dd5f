"""Worker of a farm: makes one task after another on one server."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ...demo.launcher.client import Failed, Interrupted, Prompt, Rejected
from ...demo.launcher.files import Problem
from ...demo.launcher.install import cache_folder
from .servers import LOST, OwnServer
from .task import Outcome, Task

ATTEMPTS = 3
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
    """Makes tasks on one server. A node's error is an outcome; a lost server of ours is started again."""

    def __init__(self, server: Draws, timeout: float = TIMEOUT):
        self.server, self.timeout = server, timeout
        self._about: dict[str, str] | None = None

    def start(self) -> None:
        """Starts the server, or asks whether it answers. Raises Problem."""
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def run(self, task: Task, inputs: Contents | None = None) -> Outcome:
        """Outcome of a task. Raises Problem where the worker can make no other task, either."""
        started, attempt, again = time.monotonic(), 0, False
        while True:
            attempt += 1
            try:
                content = self._draw(task, contents(task) if inputs is None else inputs)
                if self._about is None:
                    self._about = self.server.about()
                break
            except (Failed, Rejected) as error:
                if not _out_of_memory(str(error)):
                    return Outcome(error=str(error))
                if again:
                    return Outcome(error="out of memory, also after a restart of the server")
                again = True
                self.server.restart()
            except Interrupted as error:
                raise Problem(f"{error}: run the same command again to go on.") from error
            except LOST as error:
                self._revive()
                if attempt == ATTEMPTS:  # and it runs again, so this task is the cause
                    return Outcome(error=f"the server was lost {ATTEMPTS} times at this picture ({error})")
        facts = {
            "seconds": round(time.monotonic() - started, 3),
            "attempts": attempt,
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            **self._about,
        }
        return Outcome(content, facts=facts)

    def _draw(self, task: Task, inputs: Contents) -> bytes:
        for name, content in inputs.items():
            self.server.lend(name, content)
        return self.server.draw(task.graph, task.output, self.timeout)

    def _revive(self) -> None:
        with suppress(*LOST):
            self.server.restart()


def _out_of_memory(sentence: str) -> bool:
    return "out of memory" in sentence.lower() or "allocation on device" in sentence.lower()


def own(base: str, folders: Mapping[str, str], cpu: bool) -> Worker:
    """Worker with a ComfyUI of its own. base: its folder; a relative one is below the cache of its machine."""
    return Worker(OwnServer(cache_folder() / "farm" / base, folders, cpu))
