"""The keeper of a program: it ends with the process that asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KEEPER = Path(__file__).resolve().parents[3] / "demo" / "launcher" / "keeper.py"


def keep(code: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", str(KEEPER), sys.executable, "-c", code]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ended(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_the_exit_status_is_that_of_the_program():
    process = keep("raise SystemExit(7)")
    assert process.wait(10) == 7
    process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="POSIX only: asks for a process by signals")
def test_the_program_ends_when_the_pipe_is_closed():
    process = keep("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    assert process.stdout is not None and process.stdin is not None
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)  # Ctrl-C is left to the process that asked
    process.stdin.close()
    assert process.wait(10) == 128 + signal.SIGTERM and ended(pid)


@pytest.mark.skipif(os.name == "nt", reason="POSIX only: ends processes by signals")
def test_the_program_ends_when_its_keeper_is_asked_to():
    process = keep("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM and ended(pid)
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only: a system call")
def test_the_program_ends_with_a_keeper_that_is_killed():
    process = keep("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate()
    assert ended(pid)
