"""A benchmark's cells on Ray's actors, one of them killed: the bytes of one process."""

import os
import signal

import pytest
from likeness.demo.launcher.install import cache_folder
from likeness.tests.lab.bench import driver, tiny
from likeness.tests.lab.bench.conftest import arrays
from likeness.tests.lab.farm.stand_in import alive, drivers, until

PYTHON = next(iter(sorted(cache_folder().glob("ray-*/venv/bin/python"))), None)
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(PYTHON is None, reason="Ray is not installed: run.py ray --version does it"),
]
PATIENCE = 500.0


def test_a_killed_actor_loses_nothing(tmp_path, monkeypatch, alone):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    command = [str(PYTHON), str(driver.__file__), "--ray", "local", "--workers", "2"]
    with drivers(tmp_path, lambda: command) as start:
        running = start()
        until(lambda: arrays(tmp_path), PATIENCE)
        actors = [pid for pid, line in start.processes().items() if "ray::Actor" in line and alive(pid)]
        os.kill(actors[0], signal.SIGKILL)
        assert running.wait(PATIENCE) == 0, (tmp_path / "driver0.log").read_text()
        until(lambda: not any(map(alive, start.processes())), PATIENCE)
    assert arrays(tmp_path) == alone and len(alone) == tiny.CELLS
