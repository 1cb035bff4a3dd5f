"""Drawing: files that appear whole and once, errors that are results, and lost servers."""

import json

import pytest
from likeness.demo.launcher.client import Failed, Interrupted, Rejected
from likeness.demo.launcher.files import Problem, try_lock
from likeness.lab.evaluate import generate, steps
from likeness.lab.farm import records as files
from likeness.lab.farm import servers
from likeness.tests.lab.evaluate.crews import crew_of

LOST = ConnectionError("gone")


@pytest.fixture
def plan(make):
    made = make(["vanilla", "jedi"], only=["nemo"])
    made.write()
    return made


def drawn(plan, server, **options) -> generate.State:
    steps.draw(plan, crew_of(server), **options)
    return generate.state(plan)


def test_every_picture_is_drawn_once_with_its_record(plan, fake_server):
    server = fake_server()
    state = drawn(plan, server)
    assert (state.done, state.todo, state.failed) == (8, [], {}) and len(server.graphs) == 8
    assert set(server.lent) == {name for name in server.lent if name.endswith(".png")} and len(set(server.lent)) == 1
    record = json.loads((plan.folder / "images" / "jedi" / "nemo" / "0" / "01-10.json").read_text())
    assert record["device"] == "cpu" and record["attempts"] == 1 and len(record["sha256"]) == 64
    assert drawn(plan, again := fake_server()).done == 8 and not again.graphs
    assert not list(plan.folder.rglob("*.part"))


def test_a_run_goes_on_where_it_stopped(plan, fake_server):
    server = fake_server([None] * 3 + [Interrupted("interrupted at KSampler")])
    with pytest.raises(Problem, match="run the same command again"):
        drawn(plan, server)
    assert drawn(plan, again := fake_server()).done == 8 and len(again.graphs) == 5


def test_a_picture_without_its_record_or_of_another_key_does_not_count(plan, fake_server):
    drawn(plan, fake_server())
    folder = plan.folder / "images" / "vanilla" / "nemo" / "0"
    (folder / "00-7.json").unlink()
    (folder / "00-8.json").write_text(json.dumps({"key": "another"}))
    (folder / "01-9.png").unlink()
    (folder / "01-10.json").write_text("{")
    assert len(generate.state(plan).todo) == 4
    assert drawn(plan, server := fake_server()).done == 8 and len(server.graphs) == 4


def test_a_photo_that_went_away_is_one_sentence(plan, fake_server, data):
    drawn(plan, fake_server(), limit=1)
    (data / "nemo" / "0.png").unlink()
    with pytest.raises(Problem, match=r"The photo .*0\.png is missing"):
        drawn(plan, fake_server())


def test_an_error_of_a_node_is_a_result(plan, fake_server):
    server = fake_server([None, Failed("5", "KSampler", "the mask is empty")])
    state = drawn(plan, server)
    assert state.done == 7 and state.failed == {"vanilla/nemo/0/00-8": "KSampler (node 5): the mask is empty"}
    assert not drawn(plan, same := fake_server()).todo and not same.graphs
    state = drawn(plan, fake_server(), retry=True)
    assert state.done == 8 and not state.failed and not list(plan.folder.rglob("*.error.json"))


def test_a_row_that_always_fails_is_given_up(make, fake_server):
    plan = make(["vanilla", "lora"], only=["nemo"])
    plan.write()
    refused = Rejected({"error": {"message": "no such checkpoint"}})
    state = drawn(plan, fake_server([refused] * 3))
    assert len(state.failed) == 3 and state.done == 5 and not state.todo  # one more was on its way to the worker


def test_memory_is_tried_once_more_after_a_restart(plan, fake_server):
    error = Failed("5", "KSampler", "CUDA out of memory")
    assert drawn(plan, server := fake_server([error])).done == 8 and server.restarts == 1
    state = drawn(make_again(plan), server := fake_server([error, error]))
    assert len(state.failed) == 1 and server.restarts == 1


def make_again(plan):
    for path in (plan.folder / "images").rglob("*.json"):
        path.unlink()
    return plan


def test_a_lost_server_is_started_again(plan, fake_server):
    assert drawn(plan, server := fake_server([None, LOST, LOST])).done == 8 and server.restarts == 2
    record = json.loads((plan.folder / "images" / "vanilla" / "nemo" / "0" / "00-8.json").read_text())
    assert record["attempts"] == 3
    state = drawn(make_again(plan), fake_server([LOST] * 3))  # it runs again, so the picture is the cause
    assert state.failed == {"vanilla/nemo/0/00-7": "the server was lost 3 times at this picture (gone)"}
    assert state.done == 7


def test_a_server_of_the_user_is_not_started_again(plan, monkeypatch):
    server = servers.Server("127.0.0.1:9")
    monkeypatch.setattr(server, "start", lambda: None)

    def lost(*_):
        raise LOST

    monkeypatch.setattr(server, "lend", lost)
    monkeypatch.setattr(server, "draw", lost)
    expected = r"127\.0\.0\.1:9 was lost .*, and a server of --server is never started again from here: start it, and"
    with pytest.raises(Problem, match=expected):
        drawn(plan, server)


def test_two_runs_do_not_share_a_folder(plan, fake_server):
    with (plan.folder / "lock").open("a+b") as other:
        assert try_lock(other)
        with pytest.raises(Problem, match="Another run draws into"):
            drawn(plan, fake_server())


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(Problem, match=r"The disk of .* is full"):
        files.whole(tmp_path / "one" / "picture.png", b"x")
    assert not list((tmp_path / "one").iterdir())


def test_a_limit_counts_for_each_row_and_gives_an_estimate(plan, fake_server, capsys):
    assert generate.state(plan).left() is None
    state = drawn(plan, fake_server(), limit=3)
    assert (state.done, len(state.todo)) == (6, 2) and state.left() is not None
    assert "Time: about" in capsys.readouterr().out
    assert drawn(plan, fake_server()).done == 8


@pytest.mark.parametrize(("seconds", "text"), [(42, "42 s"), (600, "10 min"), (36000, "10.0 h")])
def test_durations(seconds, text):
    assert generate.duration(seconds) == text
