"""Files of an installation: a lock between processes, whole JSON files, safe archives. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

ROOT = Path(__file__).resolve().parents[2]


class Problem(Exception):
    """Error for the user, in one sentence: what is wrong and what to do."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Lets one process in at a time. The system drops the lock when its holder ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if not try_lock(file):
            print(f"Another run is installing into {path.parent}: waiting for it.", flush=True)
            while not try_lock(file):
                time.sleep(0.3)
        yield file


def try_lock(file: BinaryIO) -> bool:
    """Takes the lock of an open file until the file is closed; False if another process holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, which replaces `path` when the block ends without an error.

    On an error the temporary file is removed. Its name contains the process id, so that two writers do not collide.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def unpack(archive: Path, target: Path) -> None:
    """Unpacks vendor/ComfyUI of an archive into `target`: plain files and folders only. Raises Problem for any other
    entry."""
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            parts = PurePosixPath(member.name).parts
            if parts[1:3] != ("vendor", "ComfyUI"):
                continue
            unsafe = member.name.startswith("/") or ".." in parts or any("\\" in part or ":" in part for part in parts)
            if unsafe or not (member.isfile() or member.isdir()):
                raise Problem(
                    f"The archive {archive.name} holds an unsafe entry, {member.name}: set COMFYUI_PATH to a ComfyUI "
                    "of your own."
                )
            path = target.joinpath(*parts[3:])
            (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
            if (content := members.extractfile(member)) is not None:
                with content, path.open("wb") as copy:
                    shutil.copyfileobj(content, copy)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(*files: Path) -> str:
    """16 hexadecimal digits that change with the content of any of the files."""
    seen = hashlib.sha256()
    for file in files:
        seen.update(file.read_bytes())
    return seen.hexdigest()[:16]


def commit() -> str:
    """Short hash of the repository's commit; "unknown" without git or outside a clone."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return result.stdout.strip() or "unknown"


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(text_of(path))
    except ValueError:
        return {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(part, path)


def size(folder: Path) -> int:
    return sum(os.lstat(os.path.join(where, name)).st_size for where, _, names in os.walk(folder) for name in names)
