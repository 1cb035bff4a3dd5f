"""Prompts: what is taken from an answer, and the file that keeps them."""

import json

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.s3 import prompts, smoke, words
from likeness.lab.s3.plan import Plan
from likeness.lab.s3.prompts import Bank


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            'Sure! Here they are:\n1. a red mug\n2) **A blue mug**\n- "a green mug"',
            ["a red mug", "A blue mug", "a green mug"],
        ),
        ('```json\n["a red mug", "a red  mug.", "two old mugs"]\n```', ["a red mug", "two old mugs"]),
        ("<think>a mug, hmm, a mug</think>\na tall mug on a tray", ["a tall mug on a tray"]),
        ("I'm sorry, I cannot describe a mug.", []),
        ("a cup\nmugshot of a man\n" + "mug " * 80, []),
        ("a <|split|> mug of tea", []),
        ("", []),
    ],
)
def test_lines_that_name_the_object_are_taken(answer, expected):
    assert words.lines(answer, "coffee mug") == expected


def test_templates_are_as_many_as_there_can_be():
    for kind in words.KINDS:
        texts = words.templates(kind, "mug", 12)
        assert len(set(texts)) == 12 and all(words.usable(text, "mug") for text in texts)


class Model:
    """Language model with fixed answers, one a call."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def answer(self, text, seed, picture=None):
        self.asked.append((text, seed))
        return self.answers.pop(0)


def plan_of(folder, count=2, prompts_by="endpoint", **changes):
    facts = smoke.facts(prompts_per_object=count, objects=["mug"], **changes)
    facts["stages"]["prompts"] = {"by": prompts_by, "path": str(folder / "given.jsonl")}
    plan = Plan(folder, facts)
    plan.write()
    return plan


def test_what_is_missing_is_asked_again_and_kept(tmp_path):
    plan = plan_of(tmp_path)
    model = Model("a red mug", "a red mug\na blue mug", "a mug by a lake\na mug at home")
    found = prompts.fill(plan, ["mug"], model, lambda _: None)
    assert found.texts("mug", "object") == ["a red mug", "a blue mug"]
    assert [seed for _, seed in model.asked] == [0, 1, 0] and "Write 1 different" in model.asked[1][0]
    again = prompts.fill(plan, ["mug"], Model(), lambda _: None)
    assert again.texts("mug", "scene") == ["a mug by a lake", "a mug at home"]
    assert {again.of(plan, plan.row(n)) for n in range(2)} == {"a red mug", "a blue mug"}
    first, second, third = again.scenes(plan, plan.row(0), 3)
    assert first != second and third in (first, second)


def test_an_answer_without_any_prompt_is_one_sentence(tmp_path):
    with pytest.raises(Problem, match=r"gave no prompt of 'mug' in 3 attempts, but 'lorem ipsum': name another model,"):
        prompts.fill(plan_of(tmp_path), ["mug"], Model(*["lorem\nipsum"] * 3), lambda _: None)


def test_a_line_that_was_cut_is_made_again(tmp_path):
    plan = plan_of(tmp_path, count=1)
    path = tmp_path / prompts.FILE
    first = json.dumps({"object": "mug", "kind": "object", "texts": ["a red mug"]})
    path.write_text(first + '\n{"object": "mug", "ki')
    prompts.fill(plan, ["mug"], Model("a mug at home"), lambda _: None)
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["object", "scene"]
    path.write_text("{\n" + first + "\n")
    with pytest.raises(Problem, match=r"The line 1 of .* is no prompt of an object: correct or remove it"):
        Bank(path)
    path.write_text('{"object": "mug", "kind": "color", "texts": []}\n')
    with pytest.raises(Problem, match=r'line 1 of .* needs "kind" object or scene'):
        Bank(path)


def test_a_file_must_have_every_object(tmp_path):
    plan = plan_of(tmp_path, prompts_by="file")
    (tmp_path / "given.jsonl").write_text('{"object": "mug", "kind": "object", "texts": ["a red mug"]}\n')
    with pytest.raises(Problem, match=r"has no prompts of kind scene for 'mug' \(1 are missing\): add them, or remove"):
        prompts.fill(plan, ["mug"], None)
