"""Files of finished pictures: each appears whole, and its record appears last."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ...demo.launcher.files import Problem, read_json
from .plan import Job


def whole(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all. Raises Problem for a full disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Problem(f"The disk of {path.parent} is full: free some, and run the same command again.") from error
    finally:
        part.unlink(missing_ok=True)


class Records:
    """Pictures, records and errors below OUT/images."""

    def __init__(self, out: Path):
        self.folder = out / "images"

    def picture(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _error(self, name: str) -> Path:
        return self.folder / f"{name}.error.json"

    def record(self, name: str, key: str) -> dict[str, Any] | None:
        """Record of a finished picture; None if there is none of this key, or if the picture is gone."""
        record = read_json(self._record(name))
        return record if record.get("key") == key and self.picture(name).is_file() else None

    def error(self, name: str, key: str) -> dict[str, Any] | None:
        """Error that a node raised for this picture; None if there is none of this key."""
        error = read_json(self._error(name))
        return error if error.get("key") == key else None

    def finish(self, job: Job, key: str, content: bytes, facts: dict[str, Any]) -> None:
        whole(self.picture(job.name), content)
        record = {"name": job.name, "key": key, "sha256": hashlib.sha256(content).hexdigest(), **facts}
        whole(self._record(job.name), json.dumps(record).encode())
        self._error(job.name).unlink(missing_ok=True)

    def fail(self, job: Job, key: str, sentence: str) -> None:
        whole(self._error(job.name), json.dumps({"name": job.name, "key": key, "error": sentence}).encode())
