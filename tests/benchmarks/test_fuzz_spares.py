"""Fresh processes of the fuzzer's server, as forks of one that has run nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from likeness.benchmarks.fuzz import host_nodes

MODULE = Path(host_nodes.__file__).with_name("spares.py")
PROGRAM = f"""
import importlib.util, pathlib, signal, sys
spec = importlib.util.spec_from_file_location("spares", {str(MODULE)!r})
spares = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spares)
runs = []
spares.hold(pathlib.Path(sys.argv[1]))
runs.append(1)
print(len(runs), flush=True)
signal.pause()
"""


def until(condition):
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("nothing happened within 30 seconds")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("crashed", [False, True])
def test_the_next_process_is_a_fresh_one(tmp_path, crashed):
    file = tmp_path / "serving.pid"
    with subprocess.Popen([sys.executable, "-I", "-c", PROGRAM, str(file)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"1\n"
        served = until(lambda: file.exists() and int(file.read_text()))
        assert served != first.pid
        if crashed:
            os.kill(served, signal.SIGKILL)
        first.send_signal(signal.SIGUSR1)
        assert first.stdout.readline() == b"1\n"
        until(lambda: int(file.read_text()) != served)
        following = int(file.read_text())
        assert not alive(served) and alive(following)
        first.terminate()
        assert first.wait(30) == 0
        until(lambda: not alive(following))
