"""Worker of a farm: makes one task after another on one server."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ...demo.launcher.client import Failed, Interrupted, Prompt, Rejected
from ...demo.launcher.files import Problem
from ...demo.launcher.install import cache_folder
from .servers import LOST, Blameless, OwnServer
from .task import Outcome, Task

ATTEMPTS = 3
MOST_ATTEMPTS = 10
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
        self._lives, self._reviving = 0, threading.Lock()

    def start(self) -> None:
        """Starts the server, or asks whether it answers. Raises Problem."""
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def run(self, task: Task, inputs: Contents | None = None) -> Outcome:
        """Outcome of a task. Raises Problem where the worker can make no other task, either."""
        started, attempt, blamed, again = time.monotonic(), 0, 0, False
        while True:
            attempt, life = attempt + 1, self._lives
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
                self._revive(life)
            except Interrupted as error:
                raise Problem(f"{error}: run the same command again to go on.") from error
            except LOST as error:
                self._revive(life)
                blamed += not isinstance(error, Blameless)
                if blamed == ATTEMPTS:  # and it runs again, so this task is the cause
                    return Outcome(error=f"the server was lost {ATTEMPTS} times at this picture ({error})")
                if attempt == MOST_ATTEMPTS:
                    raise Problem(
                        f"The server answers, and was lost {attempt} times ({error}): see its log."
                    ) from error
        facts = {
            "seconds": round(time.monotonic() - started, 3),
            "attempts": attempt,
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            **self._about,
        }
        return Outcome(content, facts=facts)

    def _draw(self, task: Task, inputs: Contents) -> bytes:
        try:
            for name, content in inputs.items():
                self.server.lend(name, content)
        except LOST as error:
            raise Blameless(str(error)) from error
        return self.server.draw(task.graph, task.output, self.timeout)

    def _revive(self, life: int) -> None:
        """Starts the server again, unless another thread has done it since. life: of the server that was lost."""
        with self._reviving, suppress(*LOST):
            if self._lives == life:
                self.server.restart()
                self._lives += 1


def _out_of_memory(sentence: str) -> bool:
    return "out of memory" in sentence.lower() or "allocation on device" in sentence.lower()


def own(base: str, folders: Mapping[str, str], cpu: bool) -> Worker:
    """Worker with a ComfyUI of its own. base: its folder; a relative one is below the cache of its machine."""
    return Worker(OwnServer(cache_folder() / "farm" / base, folders, cpu))
