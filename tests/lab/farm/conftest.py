"""A server in a process of its own that draws without a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from likeness.tests.lab.farm.stand_in import FAKE


@pytest.fixture
def comfyui(monkeypatch) -> Path:
    """Folder of a stand-in for ComfyUI."""
    monkeypatch.setenv("COMFYUI_PATH", str(FAKE))
    monkeypatch.delenv("LIKENESS_PYTHON", raising=False)
    return FAKE
