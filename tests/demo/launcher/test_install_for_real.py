"""Installation with the real venv and pip, in separate processes, from a made-up index and without a network."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from likeness.demo.launcher import files
from likeness.demo.launcher.pins import TORCH

ROOT = Path(__file__).resolve().parents[3]
DRIVER = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from demo.launcher import install
from demo.launcher.files import Problem
from demo.launcher.pins import HOSTS
HOSTS.update({hosts!r})
install.LOCKS = Path({locks!r})
try:
    print(install.private_comfyui(Path({cache!r}), {version!r})[0])
except Problem as problem:
    sys.exit("run.py: %s" % problem)
"""


def write_locks(folder: Path, index: Path) -> None:
    folder.mkdir()
    for name, packages in (
        ("torch", ("torch-2.11.0", "torchvision-0.26.0", "torchaudio-2.11.0")),
        ("host-0.30.0", ("front_end-2", "segment_anything-1.0")),
        ("host-0.24.0", ("front_end-1", "segment_anything-1.0")),
    ):
        lines = []
        for package in packages:
            sha256 = hashlib.sha256((index / f"{package}-py3-none-any.whl").read_bytes()).hexdigest()
            lines.append(f"{package.replace('-', '==')} --hash=sha256:{sha256}\n")
        (folder / f"{name}.txt").write_text("".join(lines))


class Installer:
    def __init__(self, index: dict[str, str], folder: Path):
        self.cache, self.trace, self.locks = folder / "cache", folder / "trace", folder / "locks"
        write_locks(self.locks, Path(index["folder"]))
        self.hashes = {version: index[version] for version in ("0.30.0", "0.24.0")}
        self.variables = {
            **os.environ,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": index["folder"],
            "PIP_CONFIG_FILE": os.devnull,
            "TRACE": str(self.trace),
        }

    def start(self, version: str = "0.30.0", **variables: str) -> subprocess.Popen[str]:
        hosts = {"0.30.0": ("2.6.0", self.hashes["0.30.0"]), "0.24.0": ("2.4.0", self.hashes["0.24.0"])}
        places = {"root": str(ROOT), "cache": str(self.cache), "locks": str(self.locks)}
        code = DRIVER.format(hosts=hosts, version=version, **places)
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env={**self.variables, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def log(self, version: str = "0.30.0") -> str:
        return (self.cache / f"host-{version}" / "install.log").read_text()


@pytest.fixture
def installer(index: dict[str, str], tmp_path: Path) -> Installer:
    """Installer with an empty cache."""
    return Installer(index, tmp_path)


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a virtual environment, made once because it is slow."""
    folder = tmp_path_factory.mktemp("python") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder


@pytest.fixture
def begun(installer: Installer, python: Path) -> Installer:
    """Installer with a cache in which an earlier run stopped after its first step."""
    folder = installer.cache / "host-0.30.0"
    shutil.copytree(python, folder / "venv", symlinks=True)
    recipe = {"packages": [*TORCH], "sites": [], "comfyui": ["2.6.0", installer.hashes["0.30.0"]]}
    files.write_json(folder / "steps.json", {"recipe": recipe, "done": ["python"], "begun": "source"})
    return installer


def succeed(process: subprocess.Popen[str]) -> str:
    """Waits for an installer and returns its output; its last line is the Python."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def fail(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1, output + errors
    assert errors.startswith("run.py: "), errors
    assert errors.count("\n") == 1, errors
    return errors


def imported(python: str, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_two_at_once_install_once_and_an_older_host_shares_torch(begun: Installer):
    processes = [begun.start(), begun.start()]
    outputs = [succeed(process) for process in processes]
    assert sum("waiting for it" in output for output in outputs) == 1
    assert sum("Installed in" in output for output in outputs) == 1
    assert begun.log().count("Successfully installed torch") == 1
    assert len(re.findall("Successfully installed front.end-2 segment.anything-1.0", begun.log())) == 1
    python = outputs[0].splitlines()[-1]
    assert outputs[1].splitlines()[-1] == python
    assert Path(python).is_relative_to(begun.cache)
    versions = "import torch, front_end; print(torch.__version__, front_end.__version__, torch.__file__)"
    assert imported(python, versions).startswith("2.11.0 2 ")

    older = succeed(begun.start("0.24.0")).splitlines()[-1]
    version, front_end, file = imported(older, versions).split(" ", 2)
    assert (version, front_end) == ("2.11.0", "1")
    assert "host-0.30.0" in file  # not a second copy
    assert imported(python, versions).startswith("2.11.0 2 ")  # the default host keeps its own
    assert "0.24.0" in (begun.cache / "host-0.24.0" / "ComfyUI" / "comfyui_version.py").read_text()


@pytest.mark.skipif(os.name == "nt", reason="POSIX only: a child cannot inherit the lock on Windows")
def test_a_run_waits_for_the_pip_of_a_killed_run(begun: Installer):
    """An orphaned pip still writes; a new installation beside it would corrupt its files."""
    killed = begun.start(SLOW="3")
    deadline = time.monotonic() + 300
    while not begun.trace.exists():
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    output = succeed(begun.start())
    assert "waiting for it" in output
    assert imported(output.splitlines()[-1], "import torch; print(torch.__version__)") == "2.11.0"


@pytest.mark.skipif(os.name == "nt", reason="POSIX only: Windows has no SIGTERM to send")
def test_sigterm_ends_pip_too(begun: Installer):
    process = begun.start(SLOW="60")
    deadline = time.monotonic() + 300
    while not begun.trace.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0
    alive = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True).stdout
    assert str(begun.cache) + "/host-0.30.0/venv/bin/python -m pip" not in alive
    assert not (begun.cache / "host-0.30.0" / "download").exists()


def test_a_wrong_archive_is_never_run(begun: Installer):
    steps = begun.cache / "host-0.30.0" / "steps.json"
    steps.write_text(steps.read_text().replace(begun.hashes["0.30.0"], "0" * 64))
    begun.hashes["0.30.0"] = "0" * 64
    assert "SHA-256" in fail(begun.start())
    assert not begun.trace.exists()
    assert not (begun.cache / "host-0.30.0" / "ComfyUI").exists()


def test_a_package_of_another_hash_is_not_installed(begun: Installer):
    lock = begun.locks / "host-0.30.0.txt"
    lock.write_text(re.sub("[0-9a-f]{64}", "0" * 64, lock.read_text()))
    assert "SHA-256 is not the locked one" in fail(begun.start())
    assert not list((begun.cache / "host-0.30.0" / "venv").rglob("front_end*"))


def test_without_a_network_one_sentence_says_so(begun: Installer):
    del begun.variables["PIP_NO_INDEX"], begun.variables["PIP_FIND_LINKS"]
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"), "")
    assert "no network" in fail(begun.start(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1", **nowhere))
