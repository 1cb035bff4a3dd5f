"""Worker that draws the cells of a benchmark's sweeps, one at a time."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...demo.launcher.files import Problem
from ..farm.task import Outcome, Task, key_of

if TYPE_CHECKING:
    from ...benchmarks.sweep import Part, Sweep


def named(sweeps: Mapping[str, Sweep]) -> dict[str, tuple[Path, Sweep, Part]]:
    """Cells with their files, by names that change with the code, the weights and the settings that draw them."""
    return {
        f"{path.parent.name}/{path.stem}": (path, sweep, part)
        for sweep in sweeps.values()
        for path, part in sweep.files()
    }


def task(name: str) -> Task:
    """Task of the cell of this name."""
    return Task(name, key_of(name), {}, "")


class Cells:
    """Draws cells by their names. Several threads may ask: one draws, and the others wait."""

    def __init__(self, module: str, quick: bool, threads: int, weights: str = ""):
        """module: benchmark with a function `sweeps`. threads: of PyTorch; results can change with their number.
        weights: folder in place of the bundled one."""
        self._module, self._quick, self._threads, self._weights = module, quick, threads, weights
        self._one = threading.Lock()
        self._cells: dict[str, tuple[Path, Sweep, Part]] = {}

    def start(self) -> None:
        """Loads the models and lists the cells. Raises Problem."""
        if (comfyui := os.environ["COMFYUI_PATH"]) not in sys.path:
            sys.path.insert(0, comfyui)
        import torch

        from ...benchmarks.command import prepare_host

        torch.set_num_threads(self._threads)
        prepare_host()
        benchmark = importlib.import_module(self._module)
        weights = (Path(self._weights),) if self._weights else ()
        with problems(), torch.inference_mode():
            self._cells = named(benchmark.sweeps(self._quick, *weights))

    def run(self, task: Task, inputs: Mapping[str, Callable[[], bytes]] | None = None) -> Outcome:
        """Content of the cell's file. Raises Problem for a cell that other code or weights draw."""
        import torch

        from ...benchmarks.kept import content_of
        from ...benchmarks.timing import silence

        if task.name not in self._cells:
            raise Problem(
                f"{socket.gethostname()} does not know the cell {task.name}: put the same code and weights on every "
                "machine."
            )
        _, sweep, part = self._cells[task.name]
        with self._one, silence(), torch.inference_mode(), problems():
            started = time.monotonic()
            content = content_of(sweep.draw(part))
        return Outcome(content, facts={"seconds": round(time.monotonic() - started, 3)})

    def stop(self) -> None:
        pass


@contextlib.contextmanager
def problems() -> Iterator[None]:
    """Makes a Problem of missing or truncated weights."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise Problem(str(error)) from error
