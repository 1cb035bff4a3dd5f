"""One ComfyUI for all server tests, with the pack installed as users install it: copied into custom_nodes, requirements by pip."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from likeness.demo import host as hosting
from likeness.tests.random_weights import fill

ROOT = Path(__file__).resolve().parents[2]


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
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-input", "-r", "requirements.txt"],
        cwd=pack,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with hosting.Host(Path(os.environ["COMFYUI_PATH"]), base=pack.parents[1]) as running:
        yield running


@pytest.fixture(scope="session")
def client(host):
    return host.client


@pytest.fixture
def workflow():
    """Reads a shipped API workflow, shortened to a few steps and two pictures."""

    def read(name: str) -> dict:
        prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
        for entry in prompt.values():
            inputs = entry["inputs"]
            if "steps" in inputs:
                inputs["steps"] = 4
            if "switch_step" in inputs:
                inputs["switch_step"] = 2
            if "batch_size" in inputs:
                inputs["batch_size"] = 2
        return prompt

    return read
