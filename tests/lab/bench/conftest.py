"""The small benchmark, drawn in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch


def arrays(cache: Path) -> dict[str, bytes]:
    """Content of every kept cell by its file's name."""
    return {path.name: path.read_bytes() for path in cache.rglob("*.npy")}


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> dict[str, bytes]:
    """Files of the small benchmark, drawn by one process with one thread, without a farm."""
    from likeness.benchmarks.timing import silence
    from likeness.tests.lab.bench import tiny

    folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(), silence():
        patch.setenv("LIKENESS_CACHE", str(folder))
        torch.set_num_threads(1)
        for sweep in tiny.sweeps(True).values():
            sweep.grid.sample_cells(sweep.names, sweep.cell, sweep.vae, sweep.kept, sweep.label)
        torch.set_num_threads(threads)
    found = arrays(folder)
    assert len(found) == len(set(found.values())) == tiny.CELLS
    return found


@pytest.fixture
def crew() -> Callable:
    """Function of a number of workers that gives a crew of processes for the small benchmark."""
    from likeness.lab.farm.crew import Threads
    from likeness.lab.farm.process import Process
    from likeness.tests.lab.bench import tiny

    arguments = {"module": tiny.MODULE, "quick": True, "threads": 1}
    return lambda workers: Threads([Process("lab.bench.cells:Cells", arguments) for _ in range(workers)])
