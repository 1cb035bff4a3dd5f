"""Survey of a folder's pictures: each folder is listed once, and an index spares opening every record."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from ...demo.launcher.files import read_json

INDEX = "index.jsonl"
"""File with a line for each record that was written: its name, the time and size of its file, and its content.

A line counts while the file is as the line says, so the records stay what is true: lines may be missing or broken.
"""


def entry(name: str, path: Path, record: dict[str, Any]) -> bytes:
    """Line of the index for a record in a file."""
    seen = path.stat()
    return json.dumps([name, seen.st_mtime_ns, seen.st_size, record]).encode() + b"\n"


class Survey:
    """Records and errors below a folder. Ask for the pictures of one folder after the other.

    A hundred thousand pictures are to fit in little memory, so only the last folder's list is kept, and the index as it
    is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._listed, self._list = "", dict[str, os.DirEntry[str]]()
        self._index: dict[str, bytes] = {}
        with contextlib.suppress(FileNotFoundError), (folder / INDEX).open("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):  # a run may have been killed within a line
                    name, _time, _size, _record = json.loads(line)
                    self._index[name] = line

    def _files(self, folder: str) -> dict[str, os.DirEntry[str]]:
        if folder != self._listed:
            self._listed, self._list = folder, {}
            with contextlib.suppress(FileNotFoundError), os.scandir(self.folder / folder) as found:
                self._list = {one.name: one for one in found}
        return self._list

    def _content(self, name: str, ending: str) -> dict[str, Any]:
        folder, _, stem = name.rpartition("/")
        file = self._files(folder).get(f"{stem}{ending}")
        if file is None:
            return {}
        if ending == ".json" and (known := self._index.get(name)):
            _name, time, size, record = json.loads(known)
            seen = file.stat()
            if (time, size) == (seen.st_mtime_ns, seen.st_size):
                return record
        return read_json(Path(file.path))

    def record(self, name: str, key: str) -> dict[str, Any] | None:
        """Record of a finished picture; None if there is none of this key, or if the picture is gone."""
        folder, _, stem = name.rpartition("/")
        if f"{stem}.png" not in self._files(folder):
            return None
        record = self._content(name, ".json")
        return record if record.get("key") == key else None

    def error(self, name: str, key: str) -> dict[str, Any] | None:
        """Error that a node raised for this picture; None if there is none of this key."""
        error = self._content(name, ".error.json")
        return error if error.get("key") == key else None
