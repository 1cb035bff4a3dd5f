"""Workers as the queue sees them: what they are given and what they report."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...demo.launcher.files import Problem
from .task import Outcome, Task

AHEAD = 2
"""Tasks that a worker has at a time: the next one waits where the last one is made."""


@dataclass(frozen=True)
class Ready:
    """A worker takes tasks now."""

    worker: int


@dataclass(frozen=True)
class Done:
    """A worker has made a task."""

    worker: int
    task: Task
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and so are the tasks that it was given. again: another one takes its place."""

    worker: int
    reason: str
    again: bool = False


Event = Ready | Done | Lost


class Crew(Protocol):
    """Workers, by their numbers from 0. size: their number."""

    size: int

    def start(self) -> None:
        """Starts the workers without waiting for them; each reports when it is ready."""
        ...

    def give(self, worker: int, task: Task) -> None:
        """Gives a ready worker one more task; never waits."""
        ...

    def wait(self) -> Event:
        """Waits for the next report."""
        ...

    def stop(self) -> None:
        """Ends the workers and all that they started."""
        ...


class Works(Protocol):
    """Worker with its server."""

    def start(self) -> None: ...
    def run(self, task: Task) -> Outcome: ...
    def stop(self) -> None: ...


class Threads:
    """Workers in this process, each with a server of its own and with `hands` threads, which run a task each."""

    def __init__(self, works: Sequence[Works], hands: int = 1):
        self.works, self.size, self.hands = works, len(works), hands
        self._given: list[queue.SimpleQueue[Task | None]] = [queue.SimpleQueue() for _ in works]
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lost: set[int] = set()
        self._losing = threading.Lock()

    def start(self) -> None:
        for number in range(self.size):
            self._begin(number, first=True)

    def _begin(self, number: int, first: bool) -> None:
        # A daemon, since a picture on a user's own server may take longer than the user wants to wait.
        thread = threading.Thread(target=self._live, args=(number, first), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _live(self, number: int, first: bool) -> None:
        work, reason = self.works[number], "a worker ended by an error of its own, which stands above"
        try:
            if first:
                work.start()
                for _ in range(self.hands - 1):
                    self._begin(number, first=False)
                self._events.put(Ready(number))
            while (task := self._given[number].get()) is not None:
                self._events.put(Done(number, task, work.run(task)))
        except Problem as problem:
            reason = str(problem)
        finally:
            self._lose(number, reason)

    def _lose(self, number: int, reason: str) -> None:
        """Reports a worker as lost, once for all of its hands."""
        with self._losing:
            if number not in self._lost:
                self._lost.add(number)
                self._events.put(Lost(number, reason))
                for _ in range(self.hands):
                    self._given[number].put(None)

    def give(self, worker: int, task: Task) -> None:
        self._given[worker].put(task)

    def wait(self) -> Event:
        return self._events.get()

    def stop(self) -> None:
        for work, given in zip(self.works, self._given, strict=True):
            for _ in range(self.hands):
                given.put(None)
            work.stop()
        for thread in self._threads:
            thread.join(0.5)
