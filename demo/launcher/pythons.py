"""Python interpreters: their path in a virtual environment, their packages, and the variables they are started with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

WINDOWS = os.name == "nt"
# Variables that would point a private Python at other packages, or pip at another target.
LEFT_OUT = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSAFEPATH",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_PYTHON",
    "PIP_DRY_RUN",
)


def clean_variables(**changes: str) -> dict[str, str]:
    """Environment variables for a private Python: this process's own without LEFT_OUT, with `changes` applied."""
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", **changes}


def python_in(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if WINDOWS else "bin/python")


def ask(python: Path | str, code: str) -> str | None:
    """Output of a line of Python, or None if that Python does not work."""
    try:
        answer = subprocess.run(
            [str(python), "-c", code], env=clean_variables(), capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def site_folders(python: Path | str) -> tuple[str, ...]:
    """Package folders of a Python."""
    code = (
        "import json, os, sys; print(json.dumps([p for p in sys.path if os.path.basename(p) in ('site-packages', "
        "'dist-packages')]))"
    )
    return tuple(json.loads(ask(python, code) or "[]"))
