"""Tasks of a server that stands in for ComfyUI, and questions on processes and files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from likeness.lab.farm.records import Records
from likeness.lab.farm.task import Task, key_of

FAKE = Path(__file__).resolve().parent / "fake_comfyui"


def task_of(seed: int, **inputs) -> Task:
    """Task of a small graph. inputs: of its first node, as the stand-in of ComfyUI reads them."""
    files = {Path(name).name: name for name in [inputs.pop("file", None)] if name}
    inputs |= {"image": next(iter(files))} if files else {}
    graph = {"1": {"class_type": "KSampler", "inputs": {"seed": seed, **inputs}}}
    graph["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    return Task(f"row/subject/0/{seed:03d}", key_of(graph), graph, "2", files)


def until(true: Callable[[], object], within: float = 20.0) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """True for a process that runs, and is not only waiting to be asked for its exit status."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pid_of(base: Path) -> int:
    """Process id of a stand-in server."""
    path = base / "server.pid"
    until(lambda: path.is_file() and path.read_text())
    return int(path.read_text())


def pictures(out: Path) -> dict[str, bytes]:
    """Content of every finished picture by its name."""
    folder = Records(out).folder
    names = [str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.json")]
    return {name: (folder / f"{name}.png").read_bytes() for name in names if (folder / f"{name}.png").is_file()}
