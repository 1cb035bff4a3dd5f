"""The driver in a process of its own, killed while it draws."""

import os
import signal
import subprocess
import sys

import pytest
from likeness.lab.farm.records import Records
from likeness.tests.lab.farm.stand_in import FAKE, alive, pictures, pid_of, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX only: ends processes by signals")
DRIVER = str(FAKE.parent / "driver.py")


@pytest.fixture
def start(tmp_path):
    """Function that starts a driver; all are killed at the end."""
    started = []

    def run(count, *options):
        command = [sys.executable, DRIVER, str(tmp_path), str(count), "--wait", "0.1", *options]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield run
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_driver_leaves_nothing_running_and_the_next_one_goes_on(tmp_path, start, number):
    driver = start(12, "--workers", "2")
    until(lambda: len(pictures(tmp_path)) >= 3)
    servers = [pid_of(tmp_path / "work" / name) for name in "01"]
    driver.send_signal(number)
    driver.communicate()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.json")}
    found = pictures(tmp_path)
    until(lambda: not any(map(alive, servers)))
    said, _ = (again := start(12)).communicate(timeout=60)
    assert again.returncode == 0 and f"{12 - len(found)} left" in said and len(found) < 12
    made = pictures(tmp_path)
    assert len(made) == len(set(made.values())) == 12 and found.items() <= made.items()
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # none was made twice
    assert not list(Records(tmp_path).folder.rglob("*.part"))


def test_two_drivers_do_not_share_a_folder(tmp_path, start):
    driver = start(12)
    until(lambda: (tmp_path / "lock").exists())
    said, _ = (second := start(12)).communicate(timeout=60)
    assert "Another run draws into" in said and second.returncode == 1
    assert driver.wait(60) == 0 and len(pictures(tmp_path)) == 12


def test_what_a_killed_run_left_unfinished_is_dropped(tmp_path):
    records = Records(tmp_path)
    folder = records.folder / "row" / "subject"
    folder.mkdir(parents=True)
    (folder / ".002.json.4711.part").write_bytes(b"{")
    (folder / "001.png").write_bytes(b"kept")
    with records.held():
        assert [path.name for path in folder.iterdir()] == ["001.png"]
