"""Import of the pack, and a run of its nodes, in a process that can neither connect nor start programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("import_alone.py")


@pytest.mark.slow
def test_nothing_connects_or_starts_programs(tmp_path):
    places = [ROOT / "demo" / "launcher" / "launch.py", os.environ["COMFYUI_PATH"], tmp_path]
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), *map(str, places)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["seen"] == [] and "palette of" in said["loaded"]
    # Packages that the host has not imported already are imported where they are needed.
    assert said["more"] == ["likeness"], said
