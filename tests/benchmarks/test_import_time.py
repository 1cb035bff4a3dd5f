"""Time to load the pack in a process of its own."""

import subprocess

import pytest
from likeness.benchmarks import import_time


def test_the_pack_is_loaded_in_a_new_process():
    assert 0 < import_time.import_seconds(1) < 120


def test_the_first_process_does_not_count(monkeypatch):
    seconds = iter((9.0, 1.0, 3.0, 2.0))
    monkeypatch.setattr(import_time, "_seconds", lambda: next(seconds))
    assert import_time.import_seconds(3) == 2.0


def test_a_pack_that_cannot_be_loaded_is_no_time(tmp_path, monkeypatch):
    (tmp_path / "__init__.py").write_text("raise ImportError('broken')")
    monkeypatch.setattr(import_time, "ROOT", tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        import_time.import_seconds(1)
