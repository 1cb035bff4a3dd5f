"""Workers in Ray's actors, on this machine or on a cluster."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...demo.launcher.files import ROOT, Problem
from . import actor
from .crew import AHEAD, Done, Event, Lost, Ready
from .session import Session, no_gpu
from .task import Task

LIVES = 4
"""Processes that a worker may lose in a row without a picture."""
PATIENCE = 60.0
"""Seconds without a worker after which the wait is told."""


class Actors:
    """Crew of Ray's actors. Each has a ComfyUI and the share of a GPU that Ray gives it."""

    def __init__(
        self,
        address: str,
        maker: str,
        arguments: Callable[[int], Mapping[str, Any]],
        *,
        size: int | None = None,
        per_gpu: int | None = 1,
        say: Callable[[str], Any] = print,
    ):
        """address: `local`, `auto`, or that of a cluster. maker: of a worker, as Actor takes it. arguments: of the
        maker, by the number of the worker's process. size: workers; without it as many as the GPUs take. per_gpu:
        workers on one GPU; None for the CPU. Raises Problem."""
        self._maker, self._arguments, self._say = maker, arguments, say
        self._share = {"num_cpus": 1} if per_gpu is None else {"num_cpus": 0, "num_gpus": 1 / per_gpu}
        self._session = Session(address, size or 1)
        self._ray = self._session.ray
        self.size = size or (1 if per_gpu is None else self._session.gpus() * per_gpu)
        if not self.size:
            self._session.leave()
            raise no_gpu()
        self._actors: dict[int, Any] = {}
        self._hired, self._fallen = 0, Counter[int]()
        self._calls: dict[Any, tuple[int, Task | None]] = {}
        self._lent: dict[str, Any] = {}
        self._events: deque[Event] = deque()
        self._since, self._told = time.monotonic(), False

    def start(self) -> None:
        for number in range(self.size):
            self._hire(number)

    def _hire(self, number: int) -> None:
        hands = AHEAD + 1  # one to stop it while the others are busy
        make = self._ray.remote(**self._share, max_concurrency=hands, max_restarts=0, max_task_retries=0)(actor.Actor)
        found = make.remote(str(ROOT), self._maker, dict(self._arguments(self._hired)))
        self._hired += 1
        self._actors[number] = found
        self._calls[found.ready.remote()] = number, None

    def give(self, worker: int, task: Task) -> None:
        inputs = {name: self._place(name, path) for name, path in task.inputs.items()}
        self._calls[self._actors[worker].run.remote(task, inputs)] = worker, task

    def _place(self, name: str, path: str) -> Any:
        """Place of a file's content in Ray's store, so that no disk need be shared."""
        if name not in self._lent:
            self._lent[name] = self._ray.put(Path(path).read_bytes())
        return self._lent[name]

    def wait(self) -> Event:
        while not self._events:
            done, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=PATIENCE)
            for call in done:
                self._hear(call)
            waiting = time.monotonic() - self._since
            if not done and not self._told and waiting > PATIENCE:
                self._told = True
                self._say(f"  Ray has placed no worker in {waiting:.0f} s: its machines may be busy, or still start.")
        return self._events.popleft()

    def _hear(self, call: Any) -> None:
        errors, (number, task) = self._ray.exceptions, self._calls.pop(call)
        try:
            answer = self._ray.get(call)
        except errors.RayTaskError as error:
            if not isinstance(error.cause, Problem):
                raise
            self._lose(number, str(error.cause))
        except errors.RayError as error:
            self._lose(number, str(error).strip().splitlines()[0])
        else:
            self._told = True
            if task is not None:
                self._fallen[number] = 0
            self._events.append(Ready(number) if task is None else Done(number, task, answer))

    def _lose(self, number: int, reason: str) -> None:
        """Drops a worker's process with its calls, and starts another one in its place."""
        self._ray.kill(self._actors.pop(number), no_restart=True)
        self._calls = {call: about for call, about in self._calls.items() if about[0] != number}
        self._fallen[number] += 1
        again = self._fallen[number] < LIVES
        self._events.append(Lost(number, reason, again))
        if again:
            self._hire(number)

    def stop(self) -> None:
        ending = [found.stop.remote() for found in self._actors.values()]
        if ending:
            self._ray.wait(ending, num_returns=len(ending), timeout=5.0)
        for found in self._actors.values():
            self._ray.kill(found, no_restart=True)
        self._session.leave()
