import json
from pathlib import Path

import pytest
from likeness.tests.hosting import client, host, pack  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workflow():
    """Reads a shipped API workflow, shortened to a few steps and two pictures."""

    def read(name: str) -> dict:
        prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
        short = {"steps": 4, "switch_step": 2, "batch_size": 2, "lambda_2": 2, "lambda_3": 2}
        for entry in prompt.values():
            entry["inputs"] |= {name: value for name, value in short.items() if name in entry["inputs"]}
        return prompt

    return read
