"""Worker in a process of its own on this machine, for work that one process cannot do twice at a time.

The process ends with the one that started it, since its standard input is closed then.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO

from ...demo.launcher.files import ROOT, Problem
from . import actor
from .task import Outcome, Task

LIVES = 3
"""Processes that one task may lose."""
_OWN_ERROR = 1
"""Exit status of Python after an error that nothing caught."""


class Process:
    """Worker whose process is started again when it is lost."""

    def __init__(self, maker: str, arguments: Mapping[str, Any]):
        """maker: MODULE:FUNCTION of the pack, which gives the worker for these arguments."""
        self._given = [maker, json.dumps(dict(arguments))]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def start(self) -> None:
        """Starts the process and waits until it is ready. Raises Problem."""
        command = [sys.executable, str(ROOT / "demo" / "launcher" / "launch.py"), "worker", *self._given]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self._answer()
        except (EOFError, OSError) as error:
            raise Problem("A worker's process ended while it started; what it said stands above.") from error

    def run(self, task: Task) -> Outcome:
        """Outcome of a task. Raises Problem."""
        for _ in range(LIVES):
            try:
                self._send({"name": task.name, "key": task.key, "graph": task.graph, "output": task.output})
                return self._answer()
            except (EOFError, OSError) as error:
                self._lost(error)
        return Outcome(error=f"{LIVES} processes were lost at it")

    def _lost(self, error: Exception) -> None:
        """Starts the process again, unless it ended on purpose or by an error that it would meet again."""
        assert self._process is not None
        if self._stopped:
            raise Problem("The worker was stopped.") from error
        if self._process.wait() == _OWN_ERROR:
            raise Problem("A worker ended by an error of its own, which stands above.") from error
        self.start()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self) -> Outcome:
        assert self._process is not None and self._process.stdout is not None
        head = self._process.stdout.readline()
        if not head.endswith(b"\n"):
            raise EOFError
        facts = json.loads(head)
        if sentence := facts.pop("problem", ""):
            raise Problem(sentence)
        content = self._process.stdout.read(size := facts.pop("size"))
        if len(content) < size:
            raise EOFError
        return Outcome(content, **facts)

    def stop(self) -> None:
        self._stopped = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def main(arguments: list[str]) -> None:
    """Serves tasks from standard input; run by Process alone. arguments: maker, and its arguments as JSON."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the work prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the asking process decides
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    maker, given = arguments
    work = actor.made(maker, json.loads(given))
    try:
        work.start()
        _write(answers, Outcome())
        while True:
            _write(answers, work.run(tasks.get()))
    except Problem as problem:
        answers.write(json.dumps({"problem": str(problem)}).encode() + b"\n")
        answers.flush()


def _listen(tasks: queue.SimpleQueue[Task]) -> None:
    """Takes tasks until the asking process is gone, and then ends this one, whatever it is doing."""
    rest = b""
    while read := os.read(0, 2**16):  # sys.stdin has a lock, which a thread must not hold when Python ends
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            tasks.put(Task(**json.loads(line)))
    os._exit(0)


def _write(answers: BinaryIO, outcome: Outcome) -> None:
    head = {"size": len(outcome.content), "error": outcome.error, "facts": dict(outcome.facts)}
    answers.write(json.dumps(head).encode() + b"\n" + outcome.content)
    answers.flush()
