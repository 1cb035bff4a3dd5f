"""Fixtures: one ComfyUI per folder of tests, with the pack installed as users install it: copied into custom_nodes, requirements by pip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from likeness.demo import host as hosting
from likeness.tests.random_weights import fill


@pytest.fixture(scope="session")
def pack(tmp_path_factory):
    """The installed pack's folder, in a private base directory."""
    base = tmp_path_factory.mktemp("comfyui")
    installed = hosting.prepare(base, link=False)
    fill(installed / "demo" / "weights")
    hosting.share_models(installed, base)
    return installed


@pytest.fixture(scope="session")
def host(pack):
    pip = [sys.executable, "-m", "pip", "install", "--no-input", "-r", "requirements.txt"]
    done = subprocess.run(pip, cwd=pack, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with hosting.Host(Path(os.environ["COMFYUI_PATH"]), base=pack.parents[1]) as running:
        yield running


@pytest.fixture(scope="session")
def client(host):
    return host.client
