"""Methods: slots in titles, the bundled workflows, and graphs that cannot be evaluated."""

import json

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import templates
from likeness.tests.lab.evaluate.conftest import graph_of
from likeness.tests.workflows import FOLDER

SCHEMAS = json.loads((FOLDER.parent / "tests" / "nodes" / "schemas.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", templates.names())
def test_a_bundled_method_takes_the_settings_of_the_protocol(name):
    template = templates.load(name)
    assert template.names >= {"seed", "steps", "cfg", "sampler", "scheduler", "width", "height", "negative"}
    assert template.names & {"checkpoint", "joint_checkpoint"}
    assert template.graph[template.output]["class_type"] == "PreviewImage"


@pytest.mark.parametrize("name", templates.names())
def test_inputs_of_our_nodes_are_those_of_their_schemas(name):
    for node in templates.load(name).graph.values():
        if node["class_type"] in SCHEMAS:
            known = {entry[0]: entry[2] for entry in SCHEMAS[node["class_type"]]["inputs"]}
            required = {name for name, optional in known.items() if not optional}
            assert required <= set(node["inputs"]) <= set(known), node["class_type"]


@pytest.mark.parametrize("name", templates.names())
def test_links_lead_to_nodes(name):
    graph = templates.load(name).graph
    links = [value for node in graph.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert links and all(node in graph for node, _ in links)


def test_methods_of_the_papers_take_photos():
    counts = {name: templates.load(name).references for name in templates.names()}
    assert counts["jedi-3"] == 3 and counts["layout-and-retouch"] == counts["pick-and-draw"] == counts["jedi"] == 1
    assert counts["vanilla"] == counts["lora"] == 0


def test_slots_are_filled_and_titles_left_out():
    template = templates.parsed("mine", graph_of(seed="seed=seed, steps=steps"))
    filled = template.filled({"prompt": "a cat", "seed": 5, "steps": 30})
    assert filled["1"]["inputs"]["text"] == "a cat" and filled["2"]["inputs"] == {"seed": 5, "steps": 30}
    assert "_meta" not in filled["1"] and template.graph["2"]["inputs"]["seed"] == 0


def test_the_dial_keeps_its_saved_value():
    assert templates.parsed("mine", graph_of(seed="seed=seed, steps=dial")).dial == 9
    assert templates.parsed("mine", graph_of()).dial is None


def test_one_of_several_pictures_is_the_result():
    graph = graph_of(output="[result]")
    graph["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}, "_meta": {"title": "Layout"}}
    assert templates.parsed("mine", graph).output == "3"
    graph["3"]["_meta"]["title"] = "Save"
    with pytest.raises(Problem, match="has 2 nodes that may show its picture"):
        templates.parsed("mine", graph)


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (graph_of(prompt="text=words_of_it"), "has the slot 'text=words_of_it': write INPUT=SLOT"),
        (graph_of(seed="noise=seed"), "has the slot 'noise=seed'"),
        (graph_of(seed="result"), "needs a slot for the seed"),
        (graph_of(prompt="text=class"), "needs a slot for the seed and one of prompt"),
        ({"nodes": []}, "no workflow in API format"),
        ([], "no workflow in API format"),
        ({}, "no workflow in API format"),
    ],
)
def test_a_graph_that_cannot_be_evaluated_is_one_sentence(graph, sentence):
    if isinstance(graph, dict) and "2" in graph and "result" in graph["2"]["_meta"]["title"]:
        graph["2"]["_meta"]["title"] = "KSampler"
    with pytest.raises(Problem, match=sentence):
        templates.parsed("mine", graph)


def test_missing_and_broken_files(tmp_path):
    (tmp_path / "broken.json").write_text("[")
    for name, sentence in (("loras", "There is no method loras: use"), (str(tmp_path / "broken.json"), "is not JSON")):
        with pytest.raises(Problem, match=sentence):
            templates.load(name)
