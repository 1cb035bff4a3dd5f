"""Import of the pack, and a run of its nodes, in a process that can neither connect nor start programs."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from likeness.tests.patching.evaluation.tiny_networks import write_networks
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("import_alone.py")
WAYS = [
    *("socket.connect", "socket.sendto"),
    *(["socket.sendmsg"] if hasattr(socket.socket, "sendmsg") else []),  # Windows has none
    *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"),
    "subprocess.Popen",
]
"""Events of the attempts that the program makes last, to show that they are denied."""


@pytest.fixture
def server():
    """A server on this machine. Without the denial a connection to it would succeed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()):
            listening.accept()[0].close()
        listening.setblocking(False)
        yield listening


@pytest.mark.slow
def test_nothing_connects_or_starts_programs(tmp_path, server):
    write_networks(tmp_path / "metrics", 64)
    for place in (tmp_path / "metrics").iterdir():
        tensors = load_file(place / "model.safetensors")
        tensors.pop(sorted(tensors)[-1])
        save_file(tensors, place / "model.safetensors", {"format": "pt"})
    places = [ROOT / "demo" / "launcher" / "launch.py", os.environ["COMFYUI_PATH"], tmp_path, server.getsockname()[1]]
    # Nothing outside of the pack forbids transformers to look for a network.
    online = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), *map(str, places)],
        capture_output=True,
        text=True,
        check=False,
        env={**online, "HF_HOME": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["seen"] == [] and "palette of" in said["loaded"]
    assert said["denied"] == [WAYS, 0]
    with pytest.raises(BlockingIOError):
        server.accept()
    absent, *broken = said["refusals"].values()
    assert absent.startswith("Likeness Metrics: expected the weights clip-vit-large-patch14 (1.7 GB, MIT) in ")
    for name, sentence in zip(("clip-vit-base-patch32", "dino-vits16"), broken, strict=True):
        assert re.match(rf"Likeness Metrics: expected the whole network {name} in .*1 tensors are missing, ", sentence)
    assert all("\n" not in sentence and sentence.count(". ") == 0 for sentence in (absent, *broken))
    # Packages that the host has not imported already are imported where they are needed.
    assert said["more"] == ["likeness"], said
