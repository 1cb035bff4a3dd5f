"""Starting and stopping the server: no process survives the program, even after an error."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from likeness.demo.launcher import host as hosting
from likeness.demo.launcher.client import DIRECT

COMFYUI = Path(os.environ["COMFYUI_PATH"])
STAND_IN = """
import http.server, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""
"""A main.py that answers as ComfyUI does and is up at once."""
PROGRAM = """
import runpy, sys, time
from pathlib import Path
launch = runpy.run_path({launch!r})
launch["alias_pack"](None)
from likeness.demo.launcher.host import Host
with Host(Path({comfyui!r}), arguments=("--disable-all-custom-nodes",)) as host:
    print(host._process.pid, host.port, host.base, flush=True)
    {action}
"""


def program(action: str, comfyui: Path) -> subprocess.Popen:
    text = textwrap.dedent(PROGRAM).format(
        launch=str(hosting.PACK / "demo" / "launcher" / "launch.py"), comfyui=str(comfyui), action=action
    )
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def answers(port: str) -> bool:
    try:
        DIRECT.open(f"http://127.0.0.1:{port}/system_stats", timeout=2)
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("end", "real"),
    [(signal.SIGINT, False), (signal.SIGTERM, True), (None, False)],
    ids=["ctrl-c", "sigterm of a real ComfyUI", "error"],
)
def test_the_server_ends_with_the_program(end, real, tmp_path):
    (tmp_path / "main.py").write_text(STAND_IN)
    action = "time.sleep(120)" if end else "raise ValueError('an error')"
    running = program(action, COMFYUI if real else tmp_path)
    pid, port, base = running.stdout.readline().split(maxsplit=2)
    if end:
        assert answers(port)
        running.send_signal(end)
    assert running.wait(30) != 0
    assert not answers(port)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert not Path(base.strip()).exists()


def test_a_server_that_cannot_start_says_why(tmp_path):
    (tmp_path / "main.py").write_text("print('no module named sunshine'); raise SystemExit(3)")
    started = time.monotonic()
    with pytest.raises(hosting.HostError, match=r"(?s)code 3 .*no module named sunshine"), hosting.Host(tmp_path):
        pass
    assert time.monotonic() - started < 30


def test_a_server_that_never_answers_is_stopped(tmp_path):
    (tmp_path / "main.py").write_text("import time; print('still thinking', flush=True); time.sleep(60)")
    host = hosting.Host(tmp_path, ready_within=2.0)
    with pytest.raises(hosting.HostError, match=r"(?s)did not answer within 2 s.*still thinking"), host:
        pass
    assert not host.running


def test_preparing_twice_brings_a_base_directory_up_to_date(tmp_path):
    pack = tmp_path / "pack"
    (pack / "demo" / "weights" / "subjects").mkdir(parents=True)
    (pack / "__init__.py").write_text("one = 1")
    (pack / "tests").mkdir()
    for link in (False, True, False):
        (pack / "__init__.py").write_text(f"link = {link}")
        target = hosting.prepare(tmp_path / "base", pack, link=link)
        assert (target / "__init__.py").read_text() == f"link = {link}"
    assert not (target / "tests").exists() and (pack / "tests").exists()
