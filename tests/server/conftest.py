import json
import time
from pathlib import Path

import pytest
from likeness.tests.hosting import client, host, pack  # noqa: F401 - fixtures
from likeness.tests.server.prompts import only

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workflow():
    """Reads a shipped API workflow, shortened to a few steps and two pictures."""

    def read(name: str) -> dict:
        prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
        short = {"steps": 4, "switch_step": 2, "batch_size": 2, "lambda_2": 2, "lambda_3": 2}
        # A layout needs as many steps as the run that follows it, so the short one has a file of its own.
        own = {
            "LikenessSaveTrajectory": {"filename_prefix": "short"},
            "LikenessLoadTrajectory": {"file": "short_00001_.safetensors"},
        }
        for entry in prompt.values():
            entry["inputs"] |= own.get(entry["class_type"], {})
            entry["inputs"] |= {name: value for name, value in short.items() if name in entry["inputs"]}
            if entry["class_type"] == "LikenessPromptList":
                entry["inputs"]["text"] = "\n".join(entry["inputs"]["text"].splitlines()[:2])
        return prompt

    return read


@pytest.fixture
def still_serving(client, workflow):  # noqa: F811
    """Checks after the test that the server still draws a picture."""
    yield
    prompt = workflow("demo_model")
    only(prompt, "KSampler")["seed"] = time.time_ns() % 10**9
    assert client.run(prompt).images()
