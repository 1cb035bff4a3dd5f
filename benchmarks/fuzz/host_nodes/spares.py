"""Fresh processes of a server for the price of a fork: one that has imported everything, and run nothing, has children.

A server that starts anew spends far longer on its imports than on a graph.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

NEXT = getattr(signal, "SIGUSR1", None)
"""Signal at which the next child replaces the one that serves. None on systems that cannot fork."""
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def hold(file: Path) -> None:
    """Returns in each child, which goes on as the server; the first process stays here until it is terminated.

    file: names the child that serves.
    """
    if NEXT is None:
        return
    signals = {NEXT, signal.SIGTERM, signal.SIGINT}
    while True:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        child = os.fork()
        if child == 0:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            return
        written = file.with_suffix(".new")
        written.write_text(str(child), encoding="utf-8")
        written.replace(file)
        told = signal.sigwait(signals)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if told != NEXT:
            os._exit(0)
