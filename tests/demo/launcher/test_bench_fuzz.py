"""`run.py bench fuzz` runs with the tests' tools, every other benchmark with ComfyUI's own Python."""

from pathlib import Path
from types import ModuleType

import pytest


def test_fuzzing_has_the_tools(run: ModuleType, handed: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run.install, "private_comfyui", lambda _cache, _version: (Path("python"), Path("comfyui")))
    monkeypatch.setattr(run.install, "tools_python", lambda _cache, _python: Path("tools"))
    run.main(["bench", "fuzz", "--seed", "3"])
    run.main(["bench", "overhead", "--quick"])
    assert [command[0] for command, _ in handed] == ["tools", "python"]
    assert [command[2:] for command, _ in handed] == [
        ["bench", "fuzz", "--seed", "3"],
        ["bench", "overhead", "--quick"],
    ]
