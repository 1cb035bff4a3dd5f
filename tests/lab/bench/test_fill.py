"""A benchmark's cells by several processes: the bytes of one process, also after some were killed."""

import os
from pathlib import Path

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.bench import fill
from likeness.lab.farm.crew import Threads
from likeness.lab.farm.task import Outcome
from likeness.tests.lab.bench import tiny
from likeness.tests.lab.bench.conftest import arrays

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.setenv("LIKENESS_TEST_DIES", str(tmp_path / "dies"))
    return tmp_path


def filled(crew) -> list[str]:
    said: list[str] = []
    fill.Fill(tiny.sweeps(True), said.append).run(crew)
    return said


def test_two_workers_draw_what_one_process_draws(crew, cache, alone):
    said = filled(lambda: crew(2))
    assert said[0] == f"{tiny.CELLS} cells: 0 kept, {tiny.CELLS} to draw." and arrays(cache) == alone
    assert said[-1] == f"{tiny.CELLS}/{tiny.CELLS} cells, about 0 s left"
    assert filled(crew) == [f"{tiny.CELLS} cells: {tiny.CELLS} kept, 0 to draw."]  # and no process starts


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="POSIX only: ends a process by a signal")
def test_a_killed_process_loses_nothing_and_only_what_is_missing_is_drawn(crew, cache, alone):
    (folder,) = {sweep.kept.folder for sweep in tiny.sweeps(True).values()}
    folder.mkdir(parents=True)
    for name in sorted(alone)[3:]:
        (folder / name).write_bytes(alone[name])
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (cache / "dies").touch()
    assert "3 to draw" in filled(lambda: crew(1))[0]
    assert arrays(cache) == alone and not (cache / "dies").exists()
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert len(list(folder.iterdir())) == tiny.CELLS


def test_a_cell_that_cannot_be_drawn_is_one_sentence(cache):
    class Fails:
        def start(self):
            pass

        stop = start

        def run(self, task):
            return Outcome(error="3 processes were lost at it")

    with pytest.raises(Problem, match=r"^The cell tiny-\w+/jedi-\S+ cannot be drawn \(3 processes were lost at it\)"):
        filled(lambda: Threads([Fails()]))
    assert not arrays(cache)
