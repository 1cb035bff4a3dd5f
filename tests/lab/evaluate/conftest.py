"""A small data folder, methods, and servers that draw without a network."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from likeness.lab.evaluate import plan as plans
from likeness.lab.evaluate import protocol, smoke
from PIL import Image

METHODS = ("vanilla", "lora", "jedi")


@pytest.fixture
def data(tmp_path) -> Path:
    return smoke.write_data(tmp_path / "data")


@pytest.fixture
def make(tmp_path, data):
    """Function that plans some methods on the demo's subjects."""

    def made(methods=METHODS, name="tinyland", out="out", dials=None, only=(), facts=None, weights=None) -> plans.Plan:
        chosen = protocol.load(name)
        if facts:
            chosen = protocol.checked({**chosen.facts, **facts}, name)
        return plans.make(
            tmp_path / out,
            chosen,
            data=data,
            methods=methods,
            dials=dials or {},
            files={"checkpoint": "sd15.safetensors", "joint_checkpoint": "joint.safetensors"},
            weights=weights or {},
            folders={},
            only=only,
        )

    return made


class FakeServer:
    """Server that draws one color for each seed; `errors` are raised first, one a call."""

    def __init__(self, errors=()):
        self.errors, self.graphs, self.lent, self.restarts = list(errors), [], [], 0

    def start(self) -> None:
        pass

    stop = start

    def restart(self) -> None:
        self.restarts += 1

    def about(self) -> dict[str, str]:
        return {"comfyui": "0.30.0", "device": "cpu"}

    def lend(self, name, content) -> None:
        assert content()
        self.lent.append(name)

    def draw(self, graph, output, timeout) -> bytes:
        if self.errors and (error := self.errors.pop(0)):
            raise error
        self.graphs.append(graph)
        content = io.BytesIO()
        seed = next(node["inputs"]["seed"] for node in graph.values() if "seed" in node["inputs"])
        Image.fromarray(np.full((128, 128, 3), seed % 256, np.uint8)).save(content, format="PNG")
        return content.getvalue()


@pytest.fixture
def fake_server():
    return FakeServer


def graph_of(prompt: str = "text=prompt", seed: str = "seed=seed", output: str = "") -> dict:
    """Smallest graph of a method."""
    return {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": ""}, "_meta": {"title": f"Prompt [{prompt}]"}},
        "2": {"class_type": "KSampler", "inputs": {"seed": 0, "steps": 9}, "_meta": {"title": f"KSampler [{seed}]"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}, "_meta": {"title": f"Save {output}"}},
    }


@pytest.fixture
def own_method(tmp_path):
    """Function that writes a method of the user's own; returns its path."""

    def write(**changes) -> str:
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(graph_of(**changes)), encoding="utf-8")
        return str(path)

    return write
