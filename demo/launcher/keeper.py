"""Runs a program that ends with the process that asked for it: python keeper.py COMMAND ...

The asking process holds the other end of this one's standard input, which the system closes even after SIGKILL.
Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

GRACE = 8.0
"""Seconds between the polite signal and SIGKILL."""


def end(child: subprocess.Popen) -> None:
    """Ends a program; waits GRACE seconds before it is killed."""
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()


def follower() -> Callable[[], None] | None:
    """Function for a new process on Linux that ends it with this one, should this one be killed."""
    if sys.platform != "linux":
        return None
    prctl, set_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_death_signal, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Runs a program until it ends or standard input is closed; returns its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the asking process decides
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=follower())  # no threads yet
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def watch() -> None:
        while os.read(0, 1):
            pass
        end(child)

    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
