"""Installation in steps: interrupted, repaired, run again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from likeness.demo.launcher import environment, files
from likeness.tests.demo.launcher.fake_programs import LOCKED, OFFLINE, Bench, assert_whole, set_free_disk

STEPS = ("venv", "download", "install")


def test_a_second_run_installs_nothing(bench: Bench):
    assert_whole(bench.ensure())
    assert bench.programs.calls == ["venv", "download", "install", "install"]
    assert_whole(bench.ensure())
    assert len(bench.programs.calls) == 4


@pytest.mark.parametrize("moment", ["before", "halfway", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_installation_is_repaired_by_running_again(bench: Bench, step: str, moment: str):
    bench.programs.stop = (step, moment)
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    assert not bench.environment().is_ready()
    assert_whole(bench.ensure())


def test_a_killed_run_leaves_no_more_than_the_next_one_clears(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """SIGKILL runs no `finally`: temporary folders and a partial ComfyUI remain."""
    bench.programs.stop = ("download", "halfway")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            environment,
            "remove",
            lambda path: None if path.name in ("tmp", "download", "ComfyUI.part") else files.remove(path),
        )
        bench.ensure()
    folder = bench.environment().folder
    assert (folder / "download" / "archive-1.tar.gz").stat().st_size == 50
    for left in ("tmp", "ComfyUI.part"):
        (folder / left).mkdir()
        (folder / left / "half").write_text("")
    assert_whole(bench.ensure())


def test_finished_steps_are_not_repeated(bench: Bench):
    bench.programs.stop = ("install", "before")
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    bench.programs.calls.clear()
    bench.ensure()
    assert "download" not in bench.programs.calls


def test_an_interrupt_before_the_last_word_is_not_ready(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def stop(path: Path, value: dict) -> None:
        if path.name == "ready.json":
            raise KeyboardInterrupt
        files.write_json(path, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(environment, "write_json", stop)
        bench.ensure()
    assert not bench.environment().is_ready()
    assert_whole(bench.ensure())


def test_a_broken_python_is_replaced(bench: Bench):
    python = bench.ensure().python
    python.unlink()
    assert_whole(bench.ensure())


def test_an_interrupted_repair_is_not_ready_either(bench: Bench):
    bench.ensure().python.unlink()
    bench.programs.stop = ("install", "before")
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    assert not bench.environment().is_ready()
    assert_whole(bench.ensure())


def test_a_lost_comfyui_is_fetched_again(bench: Bench):
    shutil.rmtree(bench.ensure().comfyui)
    assert_whole(bench.ensure())


def test_other_packages_make_another_installation(bench: Bench):
    bench.ensure()
    later = bench.ensure(packages=("torch==2",))
    assert (later.venv / "packages").read_text().count("\n") == 2
    assert not bench.environment().is_ready()


@pytest.mark.parametrize("changed", [0, 1])
def test_a_changed_lock_is_installed_upon_the_rest(bench: Bench, changed: int):
    made, lock = bench.ensure(), bench.locks()[changed]
    packages = made.venv / "packages"
    first = packages.read_text()
    update = "".join(f"{LOCKED} {file}\n" for file in bench.locks())
    lock.write_text("changed==2\n")
    bench.ensure()
    assert packages.read_text() == first + update
    bench.ensure()
    assert packages.read_text() == first + update
    lock.write_text("changed==3\n")
    bench.programs.fails["install"] = ["ERROR: refused"]
    with pytest.raises(files.Problem):
        bench.ensure()
    assert made.is_ready()  # as it was, and the next run tries again
    bench.programs.fails.clear()
    bench.ensure()
    assert packages.read_text() == first + update + update


def test_a_changed_lock_waits_for_a_network(bench: Bench, capsys: pytest.CaptureFixture[str]):
    made = bench.ensure()
    packages = (made.venv / "packages").read_text()
    bench.locks()[1].write_text("rest==2\n")
    bench.programs.fails["install"] = [OFFLINE]
    assert bench.ensure().is_ready() and "There is no network" in capsys.readouterr().out
    bench.programs.fails.clear()
    bench.ensure()
    assert (made.venv / "packages").read_text().startswith(packages + LOCKED)


@pytest.mark.parametrize("moment", ["before", "halfway", "after"])
def test_an_interrupted_update_makes_the_installation_anew(bench: Bench, moment: str):
    bench.ensure()
    bench.locks()[1].write_text("rest==2\n")
    bench.programs.stop = ("install", moment)
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    assert not bench.environment().is_ready()
    assert_whole(bench.ensure())


@pytest.mark.parametrize("text", ["", "{", '{"recipe": {}, "done": ["python", "source", "packages"]}'])
def test_unreadable_records_are_no_records(bench: Bench, text: str):
    folder = bench.environment().folder
    folder.mkdir(parents=True)
    (folder / "steps.json").write_text(text)
    (folder / "ready.json").write_text(text)
    assert_whole(bench.ensure())


def test_records_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = tmp_path / "ready.json"
    files.write_json(record, {"a": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.write_json(record, {"a": 2})
    assert json.loads(record.read_text()) == {"a": 1}


@pytest.mark.parametrize(("free", "keeps"), [(3, True), (1.5, False)])
def test_pips_cache_is_used_where_the_disk_has_room_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, free: float, keeps: bool
):
    set_free_disk(monkeypatch, int(free * 1000))
    installed = (bench.ensure(needs=1000).venv / "packages").read_text()
    assert ("--no-cache-dir" not in installed) == keeps
