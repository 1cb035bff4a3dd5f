"""A ComfyUI that runs for long, is interrupted, and is killed while it saves: the next run is right."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..demo.launcher.client import FAILURES, Client, Interrupted, Prompt
from ..demo.launcher.host import Host
from .host_options import METHODS, PLAIN, Pictures, alike, reseeded, run_of, shorter
from .processes import status_bytes
from .report import Report, Target

SAVING = ("store_reference", "store_layout")
"""Workflows that save a file."""
LARGE = {"record_blocks": "all", "blocks": "all"}
"""Inputs that make their files large, so that saving takes a while."""
RUNS, INTERRUPTS, KILLS = 50, 20, 5
MIB = 2**20
MOST_TRIES, MOST_KILL_TRIES = 10, 50
"""Runs in which the moment of an interrupt or a kill may be missed, before it is given up.

A busy machine misses most of the milliseconds in which a file is being written.
"""
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Ends a process at once; Windows has one such signal."""
TARGETS = {
    "wrong_runs": Target("at most", 0.0),
    "half_files": Target("at most", 0.0),
    "interrupts": Target("at least", INTERRUPTS),
    "kills": Target("at least", KILLS),
}
NOTES = (
    "runs: of plain KSampler's workflow and those of the methods in turn, from one seed and from another. interrupts: "
    "runs that were interrupted at a random moment. kills: ends of the whole server by SIGKILL, while a file of these "
    "nodes had its temporary name.",
    "wrong_runs: runs that failed, or gave another picture than the first of their kind, also right after an interrupt "
    "and on the server that was started after a kill. half_files: files under their final name that cannot be read.",
    "growth_mib: resident memory of the server after the last of the runs, over that after the first fifth of them.",
)


class Runs:
    """Runs on a server, compared with the first of their kind."""

    def __init__(self, client: Client, rng: random.Random):
        self.client, self.wrong = client, []
        self._rng = rng
        self._first: dict[str, Pictures] = {}

    def check(self, name: str, prompt: Prompt, when: str = "") -> None:
        """Runs a prompt; notes a sentence if it fails or gives another picture than before."""
        try:
            found = run_of(self.client, prompt)
        except (OSError, *FAILURES) as error:
            self.wrong.append(f"{name}{when}: {error}")
            return
        first = self._first.setdefault(name, found)
        if not found or not alike(first, found):
            self.wrong.append(f"{name}{when}: another picture")

    def interrupt(self, prompt: Prompt, seconds: float) -> bool:
        """Interrupts a run at a random moment of as many seconds; False where it ended before."""
        timer = threading.Timer(self._rng.uniform(0.1, 0.9) * seconds, self.client.interrupt)
        timer.start()
        try:
            self.client.run(prompt)
        except Interrupted:
            return True
        except FAILURES as error:
            self.wrong.append(f"a run to be interrupted: {error}")
        finally:
            timer.cancel()
            timer.join()
        return False


def run(quick: bool) -> Report:
    """Runs everything. quick: a tenth of it."""
    share = 10 if quick else 1
    prompts = {name: shorter(name) for name in (PLAIN, *METHODS)}
    rng = random.Random(0)
    with Host(Path(os.environ["COMFYUI_PATH"])) as host:
        runs = Runs(host.client, rng)
        growth = long_life(runs, prompts, RUNS // share, lambda: status_bytes(host.pid, "VmRSS"))
        interrupts = interrupted(runs, prompts, max(1, INTERRUPTS // share))
        kills, half = killed(host, runs, max(1, KILLS // share), rng)
    figures = {
        "runs": float(RUNS // share),
        "interrupts": float(interrupts),
        "kills": float(kills),
        "wrong_runs": float(len(runs.wrong)),
        "half_files": float(len(half)),
        "growth_mib": growth,
    }
    return Report("lifecycle", [], figures, TARGETS, (*NOTES, *runs.wrong, *half))


def long_life(
    runs: Runs, prompts: dict[str, Prompt], count: int, memory: Callable[[], float | None] = lambda: None
) -> float | None:
    """Runs the prompts in turn, each second round from another seed; MiB that the server has grown, where known."""
    early = None
    names = [*prompts]
    for index in range(count):
        name, other = names[index % len(names)], index // len(names) % 2
        runs.check(f"{name} {other}", reseeded(prompts[name]) if other else prompts[name])
        if index + 1 == max(1, count // 5):
            early = memory()
    late = memory()
    return None if early is None or late is None else (late - early) / MIB


def interrupted(runs: Runs, prompts: dict[str, Prompt], count: int) -> int:
    """Interrupts runs and checks the run after each; the number of runs that an interrupt ended."""
    ended = tries = 0
    names = [*prompts]
    while ended < count and tries < MOST_TRIES * count:
        name = names[tries % len(names)]
        tries += 1
        started = time.monotonic()
        runs.check(f"{name} 0", prompts[name])
        if runs.interrupt(reseeded(prompts[name]), time.monotonic() - started):
            ended += 1
            runs.check(f"{name} 0", prompts[name], " after an interrupt")
    return ended


def killed(host: Host, runs: Runs, count: int, rng: random.Random) -> tuple[int, list[str]]:
    """Kills the server while it saves and starts it again: the number of kills, and the half files they left."""
    done, half, prompts = 0, [], {name: _large(shorter(name)) for name in SAVING}
    output, others = host.base / "output", dict(prompts)
    for name, prompt in prompts.items():
        runs.check(name, prompt)
    for index in range(count):
        name = SAVING[index % len(SAVING)]
        for _ in range(MOST_KILL_TRIES):
            others[name] = reseeded(others[name])  # the host would not run an equal prompt again
            hit = kill_while_saving(host, others[name], output, rng)
            if not host.running:
                host.stop()
                host.start()
            if hit:
                done += 1
                break
        half += [f"{path.name} cannot be read" for path in half_files(output)]
        runs.check(name, prompts[name], " after a kill")
    return done, half


def _large(prompt: Prompt) -> Prompt:
    for node in prompt.values():
        node["inputs"] |= {name: value for name, value in LARGE.items() if name in node["inputs"]}
    return prompt


def kill_while_saving(host: Host, prompt: Prompt, output: Path, rng: random.Random) -> bool:
    """Ends the server as soon as a file is being written; True where the file was left under its temporary name."""
    over = threading.Event()
    folders = [output, *(path for path in output.rglob("*") if path.is_dir())]

    def unfinished() -> set[tuple[str, int]]:
        # A file that a kill has left has the name of the next one.
        found = (path for folder in folders for path in os.scandir(folder) if path.name.endswith(".tmp"))
        with contextlib.suppress(FileNotFoundError):
            return {(path.name, path.stat().st_mtime_ns) for path in found}
        return set()

    before = unfinished()

    def wait_and_kill() -> None:
        while not over.is_set():  # without a pause: a small file is written in less than a millisecond
            if unfinished() - before:
                time.sleep(rng.uniform(0.0, 0.0002))
                os.kill(host.pid, KILL)
                return

    watch = threading.Thread(target=wait_and_kill)
    watch.start()
    try:
        host.client.run(prompt)
    except (OSError, *FAILURES):
        pass
    finally:
        over.set()
        watch.join()
    return bool(unfinished() - before)


def half_files(folder: Path) -> Sequence[Path]:
    """Files of these nodes that cannot be read, but do not have a temporary name."""
    found = []
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dict
                    file.get_tensor(name)
        except (SafetensorError, OSError):
            found.append(path)
    return found
