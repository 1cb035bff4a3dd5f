"""Attempts at a graph on one server: a lost server is started again, and once one that is out of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from ...demo.launcher.client import Failed, Interrupted, Rejected
from ...demo.launcher.files import Problem
from .servers import LOST, Blameless

ATTEMPTS = 3
MOST_ATTEMPTS = 10
Result = TypeVar("Result")


class GivenUp(Exception):
    """Raised where a graph is the cause that nothing is made; the message says why. Others may still be made."""


class Restarts(Protocol):
    """Server that can be started again."""

    def restart(self) -> None: ...


class Attempts:
    """Attempts of all threads at one server. The server has one graph at a time, and the other threads wait."""

    def __init__(self, server: Restarts):
        self._server = server
        self._lives, self._reviving = 0, threading.Lock()

    def run(self, draw: Callable[[], Result]) -> tuple[Result, int]:
        """Result of `draw` and the number of attempts. Raises GivenUp, and Problem where no graph can be drawn."""
        attempt, blamed, again = 0, 0, False
        while True:
            attempt, life = attempt + 1, self._lives
            try:
                return draw(), attempt
            except (Failed, Rejected) as error:
                if not _out_of_memory(str(error)):
                    raise GivenUp(str(error)) from error
                if again:
                    raise GivenUp("out of memory, also after a restart of the server") from error
                again = True
                self._revive(life)
            except Interrupted as error:
                raise Problem(f"{error}: run the same command again to go on.") from error
            except LOST as error:
                self._revive(life)
                blamed += not isinstance(error, Blameless)
                if blamed == ATTEMPTS:  # and it runs again, so this graph is the cause
                    raise GivenUp(f"the server was lost {ATTEMPTS} times at this picture ({error})") from error
                if attempt == MOST_ATTEMPTS:
                    raise Problem(
                        f"The server answers, and was lost {attempt} times ({error}): see its log."
                    ) from error

    def _revive(self, life: int) -> None:
        """Starts the server again, unless another thread has done it since. life: of the server that was lost."""
        with self._reviving, suppress(*LOST):
            if self._lives == life:
                self._server.restart()
                self._lives += 1


def _out_of_memory(sentence: str) -> bool:
    return "out of memory" in sentence.lower() or "allocation on device" in sentence.lower()
