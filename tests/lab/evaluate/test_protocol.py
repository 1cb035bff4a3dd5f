"""Protocols: the presets, their hash, their inputs, and files that are no protocol."""

import json

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import protocol


@pytest.mark.parametrize("name", protocol.names())
def test_a_preset_is_valid_and_named_after_its_file(name):
    preset = protocol.load(name)
    assert preset.name == name and len(preset.hash) == 12
    assert set(preset.axes) <= set(preset.metrics) or name == "layout-and-retouch-diversity"


def test_the_papers_protocols_are_there():
    wanted = {"dreambooth", "pick-and-draw", "jedi-1", "jedi-3", "jedi-ablation", "vico", "dreammatcher", "own"}
    assert wanted <= set(protocol.names())


def test_presets_have_different_hashes():
    assert len({protocol.load(name).hash for name in protocol.names()}) == len(protocol.names())


def test_every_detail_but_the_description_changes_the_hash():
    facts = protocol.load("dreambooth").facts
    original = protocol.Protocol(facts).hash
    assert protocol.Protocol({**facts, "about": "other words"}).hash == original
    for key, value in (("compare", "input"), ("order", "pairs"), ("images_per_prompt", 5), ("version", 2)):
        assert protocol.Protocol({**facts, key: value}).hash != original
    metrics = json.loads(json.dumps(facts["metrics"]))
    metrics["dino"]["geometry"] = "half-224-squashed"
    assert protocol.Protocol({**facts, "metrics": metrics}).hash != original


def test_a_changed_geometry_changes_the_hash(monkeypatch):
    preset = protocol.load("dreambooth")
    original = preset.hash
    monkeypatch.setitem(protocol.GEOMETRIES, "clip-224", protocol.GEOMETRIES["timm-248-224"])
    assert preset.hash != original


def test_inputs_of_each_choice():
    assert protocol.load("dreambooth").inputs("dog", 5) == [(0,)]
    assert protocol.load("jedi-1").inputs("dog", 3) == [(0,), (1,), (2,)]
    three = protocol.load("jedi-3")
    (chosen,) = three.inputs("dog", 6)
    assert len(set(chosen)) == 3 and three.inputs("dog", 6) == [chosen]
    assert len({three.inputs(name, 6)[0] for name in ("dog", "cat", "vase", "can")}) > 1


def test_seeds_are_the_same_for_every_method_and_differ_between_prompts():
    preset = protocol.load("dreambooth")
    seeds = [preset.seed(prompt, picture) for prompt in range(25) for picture in range(4)]
    assert seeds == list(range(100))


def test_too_few_photos_are_one_sentence():
    with pytest.raises(Problem, match="jedi-3 takes 3 photos of each subject, and dog has 2: add photos"):
        protocol.load("jedi-3").inputs("dog", 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"compare": "some"}, "has compare some, expected all, input, others"),
        ({"order": "prompts"}, "has order prompts, expected subjects"),
        ({"images_per_prompt": 0}, "has images_per_prompt 0, expected a whole number above 0"),
        ({"inputs": {"choice": "last", "count": 1}}, "has inputs.choice last"),
        ({"metrics": {"dino": {"kind": "identity", "geometry": "512"}}}, "has metrics.dino.geometry 512"),
        ({"metrics": {"dino": {"kind": "identity", "mask": {"fill": "red"}}}}, "has metrics.dino.mask.fill red"),
        ({"sampling": {"width": 512}}, "lacks sampling.height"),
    ],
)
def test_a_wrong_value_is_one_sentence(change, sentence):
    with pytest.raises(Problem, match=sentence):
        protocol.checked({**protocol.load("own").facts, **change}, "mine.json")


def test_files_that_are_no_protocol(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for name, sentence in (
        ("dreambench", "There is no protocol dreambench: use one of"),
        (str(tmp_path / "none.json"), "is not there"),
        (str(broken), "is not JSON"),
    ):
        with pytest.raises(Problem, match=sentence):
            protocol.load(name)
    with pytest.raises(Problem, match="lacks name, version"):
        protocol.checked([], "mine.json")
