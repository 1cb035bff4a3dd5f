"""Files of finished pictures: each appears whole, and its record appears last."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ...demo.launcher.files import Problem, try_lock
from .survey import INDEX, Survey, entry
from .task import Outcome, Task


@contextlib.contextmanager
def spared(folder: Path) -> Iterator[None]:
    """Raises Problem for a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Problem(f"The disk of {folder} is full: free some, and run the same command again.") from error


def whole(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all. Raises Problem for a full disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with spared(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class Records:
    """Pictures, records and errors below OUT/images."""

    def __init__(self, out: Path):
        self.out, self.folder = out, out / "images"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other runs out of the folder, and drops what a killed one left unfinished.

        Raises Problem where one is in it.
        """
        with (self.out / "lock").open("a+b") as lock:
            if not try_lock(lock):
                raise Problem(f"Another run draws into {self.out}: wait for it, or stop it.")
            for part in self.folder.rglob(".*.part"):
                part.unlink(missing_ok=True)
            yield

    def picture(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _error(self, name: str) -> Path:
        return self.folder / f"{name}.error.json"

    def survey(self) -> Survey:
        """Survey of what is there now."""
        return Survey(self.folder)

    def finish(self, task: Task, outcome: Outcome) -> None:
        """Writes the picture and then its record, or the sentence of its error. Raises Problem for a full disk."""
        if outcome.error:
            self.fail(task.name, task.key, outcome.error)
            return
        whole(self.picture(task.name), outcome.content)
        digest = hashlib.sha256(outcome.content).hexdigest()
        record = {"name": task.name, "key": task.key, "sha256": digest, **outcome.facts}
        whole(self._record(task.name), json.dumps(record).encode())
        self._error(task.name).unlink(missing_ok=True)
        with spared(self.folder), (self.folder / INDEX).open("ab") as index:
            index.write(entry(task.name, self._record(task.name), record))

    def fail(self, name: str, key: str, sentence: str) -> None:
        whole(self._error(name), json.dumps({"name": name, "key": key, "error": sentence}).encode())
