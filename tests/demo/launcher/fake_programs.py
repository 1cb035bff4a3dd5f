"""Stand-ins for venv, pip and git, and an installation that uses them."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from likeness.demo.launcher import files
from likeness.demo.launcher.environment import Environment
from likeness.demo.launcher.files import Problem
from likeness.demo.launcher.pins import HOSTS

VERSION = "9.9.9"
FAKE_COMFYUI = {"main.py": "", "comfyui_version.py": f'__version__ = "{VERSION}"', "requirements.txt": "front-end\n"}
LOCKED = "--no-deps --require-hashes -r"


def write_archive(path: Path, members: dict[str, str] = FAKE_COMFYUI, extra: tuple[tarfile.TarInfo, ...] = ()) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(f"top-1/vendor/ComfyUI/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        for member in extra:
            archive.addfile(member)


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


OFFLINE = (
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(': [Errno -3] Temporary "
    "failure')'"
)


class FakePrograms:
    """Stand-in for venv, pip and git. `stop` = (step, moment) interrupts a step as Ctrl-C would: before, halfway or
    after."""

    def __init__(self, archive: Path):
        self.archive, self.calls, self.stop = archive, [], None
        self.fails: dict[str, list[str]] = {}  # step: what pip prints when it fails

    def __call__(self, environment: Environment, *command: str) -> tuple[int, list[str]]:
        step = "git" if command[0] == "git" else "venv" if "venv" in command[:3] else command[3]
        self.calls.append(step)
        if step in self.fails:
            return 1, self.fails[step]
        self._stop(step, "before")
        getattr(self, step)(environment, command)
        self._stop(step, "after")
        return 0, []

    def _stop(self, step: str, moment: str) -> None:
        if self.stop == (step, moment):
            self.stop = None
            raise KeyboardInterrupt

    def venv(self, environment: Environment, command: tuple[str, ...]) -> None:
        target = Path(command[-1])
        if self.stop == ("venv", "halfway"):
            target.mkdir()
            (target / "pyvenv.cfg").write_text("home = nowhere")
        self._stop("venv", "halfway")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)

    def download(self, environment: Environment, command: tuple[str, ...]) -> None:
        target = Path(command[command.index("-d") + 1]) / "archive-1.tar.gz"
        if self.stop == ("download", "halfway"):
            target.write_bytes(self.archive.read_bytes()[:50])
        self._stop("download", "halfway")
        shutil.copy(self.archive, target)

    def install(self, environment: Environment, command: tuple[str, ...]) -> None:
        if self.stop == ("install", "halfway"):
            (environment.venv / "half a package").write_text("")
        self._stop("install", "halfway")
        with (environment.venv / "packages").open("a") as log:
            log.write(" ".join(command[command.index("install") + 1 :]) + "\n")

    def git(self, environment: Environment, command: tuple[str, ...]) -> None:
        files.unpack(self.archive, Path(command[-1]))


class Bench(NamedTuple):
    programs: FakePrograms
    cache: Path

    def environment(self, **changes: Any) -> Environment:
        first, lock = self.locks()
        given = {"packages": ("torch==1",), "needs": 10, "lock": lock, "first": first, "version": VERSION}
        return Environment(self.cache / "host", **{**given, **changes})

    def locks(self) -> tuple[Path, Path]:
        """Locks of torch and of the rest."""
        names = [self.cache.parent / name for name in ("torch.txt", "rest.txt")]
        for name in names:
            if not name.exists():
                name.write_text(f"{name.stem}==1\n")
        return names[0], names[1]

    def ensure(self, **changes: Any) -> Environment:
        environment = self.environment(**changes)
        environment.ensure(self.cache / "lock")
        return environment


def pin(monkeypatch: pytest.MonkeyPatch, archive: Path) -> None:
    monkeypatch.setitem(HOSTS, VERSION, ("1", hashlib.sha256(archive.read_bytes()).hexdigest()))


def assert_whole(environment: Environment) -> None:
    assert environment.is_ready()
    assert sorted(p.name for p in environment.folder.iterdir()) == ["ComfyUI", "ready.json", "venv"]
    assert {p.name: p.read_text() for p in environment.comfyui.iterdir()} == FAKE_COMFYUI
    assert environment.first is not None
    assert (environment.venv / "packages").read_text() == "".join(
        f"{LOCKED} {file}\n" for file in (environment.first, environment.lock)
    )
    assert not (environment.venv / "half a package").exists()


def refused(bench: Bench, **changes: Any) -> str:
    """Runs a failing installation and returns its sentence; nothing left behind may look complete to the next run."""
    with pytest.raises(Problem) as problem:
        bench.ensure(**changes)
    left = {p.name for p in bench.environment(**changes).folder.glob("*")}
    assert left <= {"venv", "ComfyUI", "steps.json", "install.log"}, left
    sentence = str(problem.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def set_free_disk(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=size))
