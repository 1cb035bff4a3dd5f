"""Plan: jobs, names, keys, and plans that do not fit."""

import json

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import plan as plans


def test_every_picture_has_a_name_that_tells_what_it_is(make):
    names = [job.name for job in make().jobs()]
    assert len(names) == len(set(names)) == 3 * 2 * 2 * 2
    assert names[0] == "vanilla/nemo/0/00-7" and names[-1] == "jedi/taxi/0/01-10"


def test_slots_are_the_words_of_the_subject(make):
    plan = make(["lora"])
    values = plan.values(next(iter(plan.jobs())))
    assert values["prompt"] == "a photo of a sks fish in the sea"
    assert values["class_prompt"] == "a photo of a fish in the sea"
    assert values["braced_prompt"] == "a photo of a {fish} in the sea"
    assert values["embedding_prompt"] == "a photo of a embedding:nemo in the sea"
    assert values["neutral_prompt"] == "a photo of a sks fish" and values["lora"] == "nemo.safetensors"
    assert values["reference"].startswith("likeness-") and values["steps"] == 25 and values["dial"] == 1.0


def test_every_choice_of_an_input_is_drawn_only_by_methods_that_take_one(make):
    plan = make(["lora", "jedi"], facts={"inputs": {"choice": "each", "count": 1}})
    inputs = {row: {job.inputs for job in plan.jobs() if job.row == row} for row in plan.rows}
    assert inputs == {"lora": {(0,)}, "jedi": {(0,), (1,), (2,), (3,)}}


def test_a_dial_makes_rows(make):
    plan = make(["lora", "vanilla"], dials={"lora": [0.5, 1.0]})
    assert list(plan.rows) == ["lora@0.5", "lora@1", "vanilla"]
    strengths = [plan.graph(job)["2"]["inputs"]["strength_clip"] for job in plan.jobs() if job.row == "lora@0.5"]
    assert set(strengths) == {0.5}


def test_the_key_changes_with_all_that_makes_the_picture(make, data):
    def keys(**changes):
        plan = make(["jedi"], **changes)
        return [plan.key(job) for job in plan.jobs()]

    original = keys()
    assert len(set(original)) == len(original) and keys() == original
    sampling = dict(make().protocol.sampling, steps=26)
    assert not set(original) & set(keys(facts={"sampling": sampling}))
    assert not set(original) & set(keys(weights={"joint_checkpoint": "abc"}))
    (data / "nemo" / "0.png").write_bytes((data / "nemo" / "1.png").read_bytes())
    assert [a == b for a, b in zip(original, keys(), strict=True)] == [False] * 4 + [True] * 4


def test_the_key_changes_with_the_weights_of_its_own_graph_alone(make):
    def changed(**weights) -> set[tuple[str, str]]:
        plan, before = make(["vanilla", "lora", "jedi"], weights=weights), make(["vanilla", "lora", "jedi"])
        return {(job.row, job.subject) for job in plan.jobs() if plan.key(job) != before.key(job)}

    subjects = ("nemo", "taxi")
    assert changed(lora={"nemo": "abc"}) == {("lora", "nemo")}
    assert changed(checkpoint="abc") == {(row, name) for row in ("vanilla", "lora") for name in subjects}
    assert changed(joint_checkpoint="abc") == {("jedi", name) for name in subjects}


def test_a_plan_is_read_as_it_was_written(make, tmp_path):
    plan = make(dials={"lora": [0.5]})
    plan.write()
    again = plans.read(tmp_path / "out")
    assert again.facts == plan.facts
    lines = [json.loads(line) for line in (tmp_path / "out" / "jobs.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [again.key(job) for job in again.jobs()]


def test_a_folder_of_another_protocol_or_version_is_refused(make, tmp_path):
    make().write()
    make(["lora"]).write()  # other methods may join
    with pytest.raises(Problem, match=r"holds the protocol tinyland .*, and this is tinyland .*: their pictures"):
        make(facts={"compare": "input"})
    with pytest.raises(Problem, match="and this is own"):
        make(name="own")
    path = tmp_path / "out" / "plan.json"
    path.write_text(json.dumps({"format": 0}))
    with pytest.raises(Problem, match="planned in format 0, and this version reads 2"):
        plans.read(tmp_path / "out")
    path.write_text("{")
    with pytest.raises(Problem, match="is broken"):
        plans.read(tmp_path / "out")
    with pytest.raises(Problem, match=r"has no plan\.json: make it with"):
        plans.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": ["jedi-3"]}, "jedi-3 takes 3 photos, and the protocol tinyland gives 1"),
        ({"methods": ["jedi"], "facts": {"inputs": {"choice": "first", "count": 3}}}, "gives 3 photos, and the method"),
        ({"facts": {"inputs": {"choice": "first", "count": 5}}, "methods": ["lora"]}, "takes 5 photos of each subject"),
        ({"dials": {"vanilla": [1.0]}}, "vanilla has no dial"),
        ({"methods": []}, "--methods names no method"),
        ({"methods": ["lora", "lora"]}, "gives lora twice"),
        ({"dials": {"lore": [1.0]}}, "--dials names lore, which --methods lacks"),
    ],
)
def test_methods_that_do_not_fit_are_one_sentence(make, changes, sentence):
    with pytest.raises(Problem, match=sentence):
        make(**changes)
