"""Reference pictures of the subjects, written while other processes read or write them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from likeness.demo.launcher import files
from likeness.demo.world import references
from likeness.demo.world.subjects import SUBJECTS
from PIL import Image


@pytest.fixture
def two(monkeypatch):
    """Limits the subjects to two, to save time."""
    monkeypatch.setattr(references, "SUBJECTS", dict(list(SUBJECTS.items())[:2]))
    return list(references.SUBJECTS)


def test_only_pictures_that_are_not_right_are_written(two, tmp_path):
    references.write(tmp_path)
    right, other = (tmp_path / f"{name}.png" for name in two)
    assert sorted(tmp_path.iterdir()) == sorted([right, other])
    whole = other.read_bytes()
    for path in (right, other):
        os.utime(path, (1, 1))
    Image.new("RGB", (512, 128)).save(tmp_path / "black.png")
    for damage in (whole[: len(whole) // 2], b"", (tmp_path / "black.png").read_bytes()):
        other.write_bytes(damage)
        references.write(tmp_path)
        assert other.read_bytes() == whole
    assert right.stat().st_mtime == 1
    with Image.open(right) as picture:
        assert np.array_equal(np.asarray(picture), references.strip(SUBJECTS[two[0]]))


def test_two_processes_may_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = []
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with files.replacing(tmp_path / "new" / "file") as temporary:
            temporary.write_text(str(process))
            names.append(temporary)
    assert names[0] != names[1]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"] and (tmp_path / "new" / "file").read_text() == "2"


def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), files.replacing(path) as temporary:
        temporary.write_text("ne")
        raise OSError("the disk is full")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"
