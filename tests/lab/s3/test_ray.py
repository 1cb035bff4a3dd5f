"""Sets that stream through Ray Data, and processes killed meanwhile: the shards are those of a run without Ray."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from likeness.demo.launcher.install import cache_folder
from likeness.lab.joint.shards import read_shard
from likeness.tests.lab.farm.stand_in import alive, drivers, until
from likeness.tests.lab.farm.test_ray import named
from likeness.tests.lab.s3.driver import PER_SHARD, SETS

PYTHON = next(iter(sorted(cache_folder().glob("ray-*/venv/bin/python"))), None)
DATA = PYTHON is not None and any(PYTHON.parents[1].glob("lib/*/site-packages/pyarrow"))
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not DATA, reason="Ray is not installed: run.py ray --version does it"),
]
DRIVER, PATIENCE = str(Path(__file__).with_name("driver.py")), 500.0
RAY = ("--ray", "local", "--workers", "3")


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "s3" / "shards").glob("*.tar"))}


def kept(out: Path, stage: str) -> list[Path]:
    return list((out / "s3" / "work").glob(f"*/*.{stage}*.png"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Function that gives the shards of a run without Ray."""
    known = {}

    def made(kind: str) -> dict[str, bytes]:
        if kind not in known:
            out = tmp_path_factory.mktemp(kind)
            command = [sys.executable, DRIVER, str(out), kind, "--workers", "2"]
            subprocess.run(command, check=True, timeout=PATIENCE)
            known[kind] = shards(out)
        return known[kind]

    return made


@pytest.fixture
def start(tmp_path):
    """Function that starts a driver on Ray; what it started is killed at the end."""
    with drivers(tmp_path, lambda kind: [str(PYTHON), DRIVER, str(tmp_path), kind, *RAY]) as run:
        yield run


@pytest.mark.parametrize(
    ("kind", "victim", "goes_on"),
    [
        ("tinyland", "ray::MapWorker", True),
        ("servers", "ray::MapWorker", True),
        ("servers", "fake_comfyui/main.py --cpu", True),
        ("servers", "driver", False),
    ],
)
def test_sets_stream_and_a_killed_process_changes_no_byte(tmp_path, start, plain, kind, victim, goes_on):
    expected = plain(kind)
    driver = start(kind)
    until(lambda: kept(tmp_path, "inpaint") or driver.poll() is not None, PATIENCE)
    drawn = len(kept(tmp_path, "collage"))
    log = tmp_path / "driver0.log"
    assert 0 < drawn < SETS, log.read_text()  # backgrounds are made before all collages are
    processes = start.processes()
    assert len(named(processes, "ray::MapWorker")) == 3
    os.kill(driver.pid if victim == "driver" else named(processes, victim)[0], signal.SIGKILL)
    driver.wait(PATIENCE)
    assert (driver.returncode == 0) == goes_on, log.read_text()
    started = start.processes()
    until(lambda: not any(map(alive, started)), PATIENCE)  # nothing is left running
    if not goes_on:
        assert len(shards(tmp_path)) < len(expected) and kept(tmp_path, "collage")
        assert start(kind).wait(PATIENCE) == 0, (tmp_path / "driver1.log").read_text()
    assert shards(tmp_path) == expected
    keys = [one.key for path in sorted((tmp_path / "s3" / "shards").glob("*.tar")) for one in read_shard(path)]
    assert len(keys) == len(set(keys)) and len(keys) > SETS - PER_SHARD
    assert not list((tmp_path / "s3" / "work").iterdir())
