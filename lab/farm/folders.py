"""Temporary folders of Ray on this machine, each with the process that it belongs to in its name."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

# Paths of sockets end at about 100 characters, and the temporary folder of macOS takes half of them.
PLACE = Path(tempfile.gettempdir() if os.name == "nt" else "/tmp")
PREFIX = "likeness-ray-"


def new() -> Path:
    """Makes this process's folder, and removes those that killed processes have left."""
    for left in PLACE.glob(f"{PREFIX}*-*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=PLACE))


def _is_running(process: int) -> bool:
    """True where it runs, or where the system does not tell."""
    if os.name == "nt":
        return True  # signal 0 would end it there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
