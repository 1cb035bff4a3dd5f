"""Ray's actors, killed while they draw: nothing is lost, made twice or left running."""

import contextlib
import os
import signal

import psutil
import pytest
from likeness.demo.launcher.install import cache_folder
from likeness.lab.farm.records import Records
from likeness.tests.lab.farm.stand_in import FAKE, alive, drivers, pictures, until

PYTHON = next(iter(sorted(cache_folder().glob("ray-*/venv/bin/python"))), None)
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(PYTHON is None, reason="Ray is not installed: run.py ray --version does it"),
]
COUNT, PATIENCE = 16, 500.0


@pytest.fixture
def start(tmp_path):
    """Function that starts a driver with two workers; what it started is killed at the end."""
    command = [str(PYTHON), str(FAKE.parent / "driver.py"), str(tmp_path), str(COUNT)]
    command += ["--wait", "0.3", "--ray", "local", "--workers", "2"]
    with drivers(tmp_path, lambda: command) as run:
        yield run


def named(processes, text):
    kept = {pid: line for pid, line in processes.items() if ("keeper.py" in line) == ("keeper.py" in text)}
    return [pid for pid, line in kept.items() if text in line and alive(pid)]


@pytest.mark.parametrize(
    ("victim", "goes_on"),
    [
        ("ray::Actor", True),
        ("fake_comfyui/main.py --cpu", True),
        ("keeper.py", True),
        ("raylet/raylet", False),
        ("gcs_server", False),
        ("driver", False),
    ],
)
def test_a_killed_process_loses_nothing(tmp_path, start, victim, goes_on):
    driver = start()
    until(lambda: len(pictures(tmp_path)) >= 4, PATIENCE)
    processes = start.processes()
    assert named(processes, "ray::Actor") and named(processes, "fake_comfyui/main.py --cpu")
    os.kill(driver.pid if victim == "driver" else named(processes, victim)[0], signal.SIGKILL)
    driver.wait(PATIENCE)
    assert driver.returncode == 0 or not goes_on, (tmp_path / "driver0.log").read_text()
    started = start.processes()
    until(lambda: not any(map(alive, started)), PATIENCE)  # nothing is left running
    found = pictures(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.json")}
    if len(found) < COUNT:
        assert not goes_on
        assert start().wait(PATIENCE) == 0
    assert len(pictures(tmp_path)) == len(set(pictures(tmp_path).values())) == COUNT
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert found.items() <= pictures(tmp_path).items() and not list(Records(tmp_path).folder.rglob("*.part"))


def test_nothing_listens_to_other_machines(tmp_path, start):
    start()
    until(lambda: pictures(tmp_path), PATIENCE)
    found = set()
    for pid in start.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {c.laddr.ip for c in psutil.Process(pid).net_connections("inet") if c.status == "LISTEN"}
    assert found and found <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
