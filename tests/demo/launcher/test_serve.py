"""`run.py serve`, as used at a terminal, with the ComfyUI of the test session."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMFYUI = os.environ.get("COMFYUI_PATH")


@pytest.mark.skipif(COMFYUI is None, reason="COMFYUI_PATH is not set")
@pytest.mark.skipif(os.name == "nt", reason="POSIX only: a test cannot press Ctrl-C on Windows")
def test_serve_shows_our_workflows_and_stops_at_ctrl_c(tmp_path: Path):
    variables = {
        **os.environ,
        "COMFYUI_PATH": str(COMFYUI),
        "LIKENESS_PYTHON": sys.executable,
        "LIKENESS_CACHE": str(tmp_path / "cache"),
    }

    def serve(port: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "run.py"), "serve", "--no-browser", "--cpu", "--port", str(port)]
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    process = serve(free)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert f"http://127.0.0.1:{free}" in first, first + process.stdout.read()
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        templates = json.load(direct.open(f"http://127.0.0.1:{free}/api/workflow_templates", timeout=30))
        assert sorted(templates["likeness"]) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
        assert "LikenessDemoModel" in json.load(
            direct.open(f"http://127.0.0.1:{free}/api/object_info/LikenessDemoModel", timeout=30)
        )

        same_port, other_port = serve(free), serve(free + 1)
        assert f"port {free} is in use" in same_port.communicate(timeout=300)[0]
        assert "another one runs" in other_port.communicate(timeout=300)[0]
        assert (same_port.returncode, other_port.returncode) == (1, 1)

        process.send_signal(signal.SIGINT)
        assert "serve: stopped." in process.communicate(timeout=30)[0]
        assert process.returncode == 0
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", free)) != 0  # the server has ended too
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
