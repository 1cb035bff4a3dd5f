"""The README's table of goals is counted from the shipped workflows."""

import runpy
from pathlib import Path

from likeness.tests import workflows

ROOT = Path(__file__).resolve().parents[2]
COUNTS = runpy.run_path(str(ROOT / "docs" / "count_workflows.py"))


def test_the_table_is_current():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert COUNTS["written"](text) == text, "run python docs/count_workflows.py"


def test_a_photo_takes_three_more_nodes_and_one_prompt():
    plain = COUNTS["count"](COUNTS["TEXT_TO_IMAGE"])[0]
    for goal in ("LoRA in new layouts", "one photo -> picture", "three photos -> picture"):
        prompt = workflows.api(COUNTS["GOALS"][goal])
        nodes, _, _, agree = COUNTS["count"](prompt)
        assert nodes - plain <= 3 and agree == 0, goal
        assert sum(node["class_type"] == "LikenessSubjectPrompt" for node in prompt.values()) == 1
        assert not any(node["class_type"] == "CLIPTextEncode" for node in prompt.values())


def test_equal_widgets_of_two_nodes_must_agree():
    sampler = {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 20, "sampler_name": "ddim", "model": ["1", 0]}}
    other = {"class_type": "LikenessSampler", "inputs": {"seed": 7, "steps": 30, "sampler": "ddim"}}
    assert COUNTS["count"]({"1": sampler, "2": other}) == (2, 1, 0, 4)
