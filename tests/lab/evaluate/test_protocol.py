"""Protocols: the presets, their hash, their inputs, and files that are no protocol."""

import json

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import protocol

OWN = protocol.load("own").facts
DINO = {"kind": "identity", "model": "dino-vits16", "geometry": "imagenet-256-224"}

CLIP = "clip-vit-base-patch32"


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


def test_a_protocol_that_scores_its_own_pictures_keeps_its_hash():
    preset = protocol.load("own")
    drawn = protocol.Protocol(
        {**preset.facts, "prompts": {**preset.facts["prompts"], "texts": {}}, "images_per_prompt": 9}
    )
    assert preset.hash != drawn.hash == preset.scoring(drawn).hash
    assert protocol.load("dreammatcher").scoring(drawn).hash != drawn.hash


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
        ({"metrics": {"dino": {**DINO, "geometry": "512"}}}, "has metrics.dino.geometry 512"),
        ({"metrics": {"dino": {**DINO, "mask": {"fill": "red", "crop": False}}}}, "has metrics.dino.mask.fill red"),
        ({"metrics": {"dino": {**DINO, "mask": {"fill": "white"}}}}, "lacks metrics.dino.mask.crop: add"),
        (
            {"metrics": {"clip-i": {**DINO, "model": CLIP, "geometry": "half-256-squashed"}}},
            "geometry half-256-squashed",
        ),
        ({"metrics": {"dino": {**DINO, "mask": "white"}}}, "has metrics.dino.mask, expected an object"),
        ({"metrics": {"dino": {**DINO, "model": "resnet"}}}, "has metrics.dino.model resnet, expected clip-vit"),
        ({"metrics": {"dino": {"kind": "identity", "geometry": "clip-224"}}}, "lacks metrics.dino.model"),
        ({"metrics": {"dino": {"kind": "identity", "model": "dino-vits16"}}}, "lacks metrics.dino.geometry"),
        ({"metrics": {"dino": {**DINO, "optinal": True}}}, "has metrics.dino.optinal, which nothing reads: correct"),
        ({"metrics": {"clip-t": {**DINO, "kind": "text"}}}, "has metrics.clip-t.model dino-vits16, expected clip-vit"),
        ({"metrics": {"prompt": {**DINO, "kind": "judge-prompt"}}}, "model dino-vits16, expected tinyland-judge"),
        ({"metrics": {"prompt": {"kind": "judge-prompt"}}}, "lacks metrics.prompt.model"),
        ({"metrics": {"dino": {}}}, "lacks metrics.dino.kind"),
        ({"metrics": {"dino": None}}, "has metrics.dino, expected an object"),
        ({"metrics": {}}, "has metrics {}, expected at least one"),
        ({"metrics": []}, "has metrics, expected an object"),
        ({"sampling": {"width": 512}}, "lacks sampling.height"),
        ({"sampling": {**OWN["sampling"], "seed": "0"}}, "has sampling.seed 0, expected a whole number above -1"),
        ({"sampling": {**OWN["sampling"], "cfg": "7"}}, "has sampling.cfg 7, expected a number"),
        ({"sampling": {**OWN["sampling"], "negative": None}}, "has sampling.negative None, expected a text"),
        ({"inputs": {"choice": "first"}}, "lacks inputs.count"),
        ({"inputs": {"choice": "each", "count": 2}}, "has inputs.count 2, expected 1 with choice each"),
        ({"inputs": 1}, "has inputs, expected an object"),
        ({"prompts": {}}, "lacks prompts.list"),
        ({"prompts": {"list": "files", "object": "a.txt"}}, "lacks prompts.live"),
        ({"prompts": {"list": "files", "object": "a.txt", "live": 3}}, "has prompts.live 3, expected the name of a"),
        ({"prompts": {"list": "coco"}}, "has prompts.list coco, expected dreambench, files"),
        ({"axes": ["dino"]}, r"has axes \['dino'\], expected the names of two metrics"),
        ({"axes": ["dino", "lpips"]}, "expected the names of two metrics"),
        ({"name": "../mine"}, r"has name \.\./mine, expected letters"),
        ({"compered": "all"}, "has compered, which nothing reads"),
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
    with pytest.raises(Problem, match="has a list or a value, expected an object"):
        protocol.checked([], "mine.json")
    with pytest.raises(Problem, match="lacks name, version"):
        protocol.checked({}, "mine.json")
