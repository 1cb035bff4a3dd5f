"""Tasks of a server that stands in for ComfyUI, and questions on processes and files."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from likeness.lab.farm.records import Records
from likeness.lab.farm.task import Task, key_of
from PIL import Image

FAKE = Path(__file__).resolve().parent / "fake_comfyui"


def task_of(seed: int, **inputs) -> Task:
    """Task of a small graph. inputs: of its first node, as the stand-in of ComfyUI reads them."""
    files = {Path(name).name: name for name in [inputs.pop("file", None)] if name}
    inputs |= {"image": next(iter(files))} if files else {}
    graph = {"1": {"class_type": "KSampler", "inputs": {"seed": seed, **inputs}}}
    graph["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    return Task(f"row/subject/0/{seed:03d}", key_of(graph), graph, "2", files)


def png_of(pixels: np.ndarray) -> bytes:
    """PNG of a picture."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


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


def descendants(pid: int) -> dict[int, str]:
    """Command lines of the processes that a process started, and of those that these started."""
    parents, lines = {}, {}
    for place in Path("/proc").iterdir():
        try:
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
    found, new = set(), {pid}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return {child: lines[child] for child in found}


@contextlib.contextmanager
def drivers(folder: Path, command: Callable[..., list[str]]) -> Iterator[Any]:
    """A function that starts the driver of a command, and whose `processes` are those that the latest one has started.

    All of them are killed at the end.
    """
    started: list[subprocess.Popen] = []
    known: dict[int, str] = {}

    def run(*arguments: str) -> subprocess.Popen:
        with (folder / f"driver{len(started)}.log").open("w") as output:
            started.append(subprocess.Popen(command(*arguments), stdout=output, stderr=output))
        return started[-1]

    def processes() -> dict[int, str]:
        known.update(descendants(started[-1].pid))
        return dict(known)

    run.processes = processes
    yield run
    for pid in [*known, *(one.pid for one in started)]:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    for one in started:
        one.wait()
