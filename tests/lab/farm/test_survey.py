"""Surveys: the index spares opening the records, and is never believed against them."""

import json
from dataclasses import replace

import pytest
from likeness.lab.farm import survey as surveys
from likeness.lab.farm.records import Records
from likeness.lab.farm.task import Outcome
from likeness.tests.lab.farm.stand_in import task_of

TASKS = [task_of(seed) for seed in range(4)]


@pytest.fixture
def records(tmp_path):
    found = Records(tmp_path)
    for task in TASKS:
        found.finish(task, Outcome(task.name.encode(), facts={"seconds": 1.5}))
    return found


def known(records):
    survey = records.survey()
    return [(survey.record(task.name, task.key) or {}).get("seconds") for task in TASKS]


def test_the_index_spares_opening_the_records(records, monkeypatch):
    monkeypatch.setattr(surveys, "read_json", lambda path: pytest.fail(f"{path} was opened"))
    assert known(records) == [1.5] * 4
    assert records.survey().record(TASKS[0].name, "another") is None


def test_files_count_and_not_the_index(records):
    first, second, third, fourth = (records.folder / f"{task.name}.json" for task in TASKS)
    first.write_text(json.dumps({"key": TASKS[0].key, "seconds": 2.0}))
    second.write_text(json.dumps({"key": "another"}))
    third.unlink()
    fourth.with_suffix(".png").unlink()
    assert known(records) == [2.0, None, None, None]


@pytest.mark.parametrize("content", [b"", b'["row/subject/0/000", 1', b"[]\n3\n\xff\n", b'["a", "b"]\n'])
def test_a_lost_or_broken_index_costs_time_alone(records, content):
    index = records.folder / surveys.INDEX
    index.write_bytes(content)
    assert known(records) == [1.5] * 4
    records.finish(TASKS[0], Outcome(b"new", facts={"seconds": 3.0}))  # behind the broken line
    assert known(records) == [3.0, 1.5, 1.5, 1.5]


def test_an_error_counts_for_its_key(records):
    records.fail(TASKS[1].name, TASKS[1].key, "the mask is empty")
    survey = records.survey()
    assert survey.error(TASKS[1].name, TASKS[1].key)["error"] == "the mask is empty"
    assert survey.error(TASKS[1].name, "another") is None and survey.error(TASKS[2].name, TASKS[2].key) is None


def test_folders_may_be_asked_in_turn(tmp_path):
    records, tasks = Records(tmp_path), [replace(TASKS[seed], name=f"row/{seed % 2}/{seed}") for seed in range(4)]
    for task in tasks:
        records.finish(task, Outcome(b"x", facts={"seconds": 1.0}))
    survey = records.survey()
    assert all(survey.record(task.name, task.key) for task in tasks)
    assert survey.record("row/2/0", tasks[0].key) is None and survey.record("alone", "") is None
