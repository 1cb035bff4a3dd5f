"""Starts a real ComfyUI with the pack in a private folder and talks to it over HTTP."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from .client import DIRECT, Client

PACK = Path(__file__).resolve().parents[2]
KEEPER = Path(__file__).resolve().parent / "keeper.py"
NOT_SHIPPED = (
    ".git",
    ".ci",
    ".github",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    "likeness_demo",
    "tests",
)
FOLDERS = ("custom_nodes", "input", "output", "temp", "user", "models/loras", "models/embeddings", "models/checkpoints")


class HostError(RuntimeError):
    """Raised when ComfyUI does not start; the message ends with its last log lines."""


def install(pack: Path, custom_nodes: Path, name: str = "likeness") -> Path:
    """Copies the pack into a custom_nodes folder as a clone would, without development files; returns the copy."""
    target = custom_nodes / name
    shutil.copytree(pack, target, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    return target


def make_folders(base: Path) -> None:
    """Makes the folders that ComfyUI needs in a base directory, and the model folders it reads."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)


def share_models(pack: Path, base: Path) -> None:
    """Copies the demo's LoRAs and embeddings into the folders that ComfyUI's own loaders read."""
    for source, kind in (("subjects", "loras"), ("embeddings", "embeddings")):
        for file in (pack / "demo" / "weights" / source).glob("*.safetensors"):
            shutil.copy2(file, base / "models" / kind / file.name)


def prepare(base: Path, pack: Path = PACK, link: bool = True) -> Path:
    """Makes `base` a ComfyUI base directory with the pack among its custom nodes and the demo's LoRAs among its models.

    The pack is linked if `link` is set and the system allows it, otherwise copied. Another call updates everything.
    Returns the pack's folder in `base`.
    """
    make_folders(base)
    target = base / "custom_nodes" / "likeness"
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    linked = False
    if link:
        with contextlib.suppress(OSError):  # Windows lets only some users make links
            target.symlink_to(pack, target_is_directory=True)
            linked = True
    if not linked:
        install(pack, base / "custom_nodes")
    share_models(pack, base)
    return target


class Host:
    """Running ComfyUI: `with Host(comfyui) as host: host.client.run(prompt)`.

    The server stops when the block ends: normally, by an error, by Ctrl-C or by SIGTERM.
    """

    def __init__(
        self,
        comfyui: Path,
        base: Path | None = None,
        *,
        python: str = sys.executable,
        cpu: bool = True,
        port: int | None = None,
        arguments: tuple[str, ...] = (),
        ready_within: float = 240.0,
        setup: Callable[[Path], tuple[str, ...]] | None = None,
        kept: bool = False,
    ):
        """comfyui: folder of main.py. base: folder made by `prepare`; without one, a temporary folder with the pack in
        it. setup: fills that folder instead, and returns further arguments of ComfyUI. kept: the server ends even
        when this process is killed."""
        self.comfyui, self.python, self.cpu, self.arguments, self.ready_within = (
            comfyui,
            python,
            cpu,
            arguments,
            ready_within,
        )
        self._setup, self._kept = setup, kept
        self._temporary = None if base else tempfile.TemporaryDirectory(prefix="likeness-", ignore_cleanup_errors=True)
        self.base = base or Path(self._temporary.name)  # pyright: ignore[reportOptionalMemberAccess]
        self.port = port or _free_port()
        self.log = self.base / "comfyui.log"
        self.client = Client(f"127.0.0.1:{self.port}")
        self._process: subprocess.Popen | None = None
        self._previous_handler = None

    def command(self) -> list[str]:
        return [
            self.python,
            str(self.comfyui / "main.py"),
            # On a CPU the host's default attention takes up to five times as long as torch's at the demo model's size.
            *(["--cpu", "--use-pytorch-cross-attention"] if self.cpu else []),
            *("--base-directory", str(self.base)),
            *("--database-url", f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}"),
            *("--listen", "127.0.0.1", "--port", str(self.port)),
            "--disable-auto-launch",
            *self.arguments,
        ]

    def __enter__(self) -> Host:
        self._catch_sigterm()
        try:
            if self._setup:
                self.arguments += self._setup(self.base)
            elif self._temporary:
                prepare(self.base)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception) -> None:
        self.stop()
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None
        if self._temporary:
            self._temporary.cleanup()

    def start(self) -> None:
        """Starts the server and waits until it answers. Raises HostError if it ends or stays silent too long."""
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        keeper = [sys.executable, "-I", "-S", str(KEEPER)] if self._kept else []
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*keeper, *self.command()],
                cwd=self.comfyui,
                env=environment,
                stdin=subprocess.PIPE if self._kept else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.await_answer()

    def await_answer(self) -> None:
        """Waits until the started server answers. Raises HostError if it ends or stays silent too long."""
        process = self._process
        deadline = time.monotonic() + self.ready_within
        while not self._answers():
            if process is None:
                raise HostError("ComfyUI does not run.")
            if process.poll() is not None:  # another thread may have stopped it
                raise HostError(
                    f"ComfyUI ended with code {process.returncode} while starting; its last lines:\n{self.last_lines()}"
                )
            if time.monotonic() > deadline:
                raise HostError(
                    f"ComfyUI did not answer within {self.ready_within:.0f} s; its last lines:\n{self.last_lines()}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            process.stdin.close()  # tells the keeper
        if process.poll() is not None:
            return
        if not self._kept:
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running server, or of its keeper."""
        if self._process is None:
            raise HostError("ComfyUI does not run.")
        return self._process.pid

    def wait(self) -> int:
        """Waits until the server ends and returns its exit status."""
        return self._process.wait() if self._process else 0

    def last_lines(self, count: int = 15) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
        return "(nothing)"

    def _answers(self) -> bool:
        try:
            with DIRECT.open(f"http://127.0.0.1:{self.port}/system_stats", timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def _catch_sigterm(self) -> None:
        """Turns SIGTERM into SystemExit, so that `finally` blocks run and the server stops."""
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        ):
            return

        def end(signal_number, _frame):
            raise SystemExit(128 + signal_number)

        self._previous_handler = signal.signal(signal.SIGTERM, end)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
