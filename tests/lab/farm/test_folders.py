"""Ray's temporary folders: one for each process, and none left of processes that are gone."""

import os
import subprocess
import sys

import pytest
from likeness.lab.farm import folders


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell of other processes")
def test_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "PLACE", tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, another = tmp_path / f"{folders.PREFIX}{gone.pid}-abc", tmp_path / "likeness-ray-notes"
    running = tmp_path / f"{folders.PREFIX}{os.getppid()}-abc"
    for folder in (left, another, running):
        (folder / "session").mkdir(parents=True)
    own = folders.new()
    assert sorted(tmp_path.iterdir()) == sorted([another, running, own])
    assert own.name.startswith(f"{folders.PREFIX}{os.getpid()}-")
