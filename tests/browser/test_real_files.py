"""Workflows for real files and blueprints, as they are shipped: complete, readable, and equal to what declares them."""

import json

import pytest
from likeness.tests import workflows
from likeness.tests.browser import frontend
from likeness.tests.browser.graphs import blueprints, shipped
from likeness.tests.browser.graphs.written import NOTE

GRAPHS = {graph.name: graph for graph in shipped.shipped()}
BLUEPRINTS = {blueprint.graph.name: blueprint for blueprint in blueprints.blueprints()}
FOLDERS = {
    "CheckpointLoaderSimple": "checkpoints",
    "UNETLoader": "diffusion_models",
    "CLIPLoader": "text_encoders",
    "DualCLIPLoader": "text_encoders",
    "VAELoader": "vae",
}
"""Loaders of files that people download, and the folder of each."""


def blueprint_file(name: str) -> dict:
    return json.loads((workflows.FOLDER.parent / "subgraphs" / f"{name}.json").read_text(encoding="utf-8"))


def test_every_template_is_declared():
    assert sorted(GRAPHS) == workflows.TEMPLATES
    files = (workflows.FOLDER.parent / "subgraphs").glob("*.json")
    assert sorted(path.stem for path in files) == sorted(BLUEPRINTS)
    assert not any(set(name) & set('<>:"/\\|?*') for name in [*GRAPHS, *BLUEPRINTS])


@pytest.mark.parametrize("name", GRAPHS)
def test_a_template_says_which_files_it_needs(name):
    graph, nodes = workflows.ui(name), workflows.api(name).values()
    text = json.dumps(graph)
    assert not any(path in text for path in ("/home/", "/root/", "/tmp/", "C:\\"))
    (note,) = (node for node in graph["nodes"] if node["type"] == "MarkdownNote")
    assert note["title"] == NOTE and note["widgets_values"] == [GRAPHS[name].note]
    assert not {"LikenessSegment", "SAMLoader"} & {node["class_type"] for node in nodes}
    assert all(node["inputs"]["area"] == "attention" for node in nodes if node["class_type"] == "LikenessSubject")
    loaders = [node for node in graph["nodes"] if node["type"] in FOLDERS]
    assert bool(loaders) == (not name.startswith("0"))
    for loader in loaders:
        models = loader["properties"]["models"]
        names = [model["name"] for model in models]
        assert names == [value for value in loader["widgets_values"] if str(value).endswith(".safetensors")]
        for model in models:
            assert model["directory"] == FOLDERS[loader["type"]]
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(f"/{model['name']}")


@pytest.fixture(scope="module")
def object_info(stocked_host):
    """Asked for before the browser starts, which keeps an event loop."""
    return stocked_host.client.object_info()


@pytest.mark.parametrize("name", GRAPHS)
def test_a_template_is_what_declares_it(object_info, name):
    assert workflows.api(name) == GRAPHS[name].api(object_info)


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_is_its_expert_nodes(object_info, page, name):
    declared = BLUEPRINTS[name].graph.api(object_info)
    exported = json.loads(frontend.to_prompt(page, blueprint_file(name)))
    inside = {
        number.partition(":")[2]: {
            **node,
            "inputs": {
                key: [value[0].partition(":")[2], value[1]] if isinstance(value, list) else value
                for key, value in node["inputs"].items()
            },
        }
        for number, node in exported.items()
    }
    assert inside == declared
    shown = page.evaluate("() => app.graph.nodes[0].widgets.map(widget => widget.name)")
    kinds = ("STRING", "INT", "FLOAT")
    assert shown == [key for key, (kind, _) in BLUEPRINTS[name].inputs.items() if kind in kinds]


def test_blueprints_are_offered(object_info, stocked_host, page):
    listed = json.loads(page.evaluate("async () => JSON.stringify(await (await fetch('/global_subgraphs')).json())"))
    ours = {found["name"]: key for key, found in listed.items() if found["info"]["node_pack"].endswith("likeness")}
    assert sorted(ours) == sorted(BLUEPRINTS)
    for name, key in ours.items():
        text = page.evaluate("async key => (await (await fetch('/global_subgraphs/' + key)).json()).data", key)
        assert json.loads(text) == blueprint_file(name)


_CLOSED = """async graph => {
  await app.loadGraphData(graph, true, true, "workflow");
  const closed = app.graph.nodes[0];
  const added = kind => { const made = LiteGraph.createNode(kind); app.graph.add(made); return made; };
  const model = added("LikenessDemoModel"), subject = added("LikenessDemoSubject"), shown = added("MaskPreview");
  const to = name => closed.inputs.findIndex(input => input.name === name);
  model.connect(0, subject, 0);
  model.connect(0, closed, to("model"));
  model.connect(1, closed, to("clip"));
  model.connect(2, closed, to("vae"));
  subject.connect(1, closed, to("picture"));
  const set = (name, value) => { closed.widgets.find(widget => widget.name === name).value = value; };
  set("prompt", "a photo of {a fish}");
  set("megapixels", 0.02);
  closed.connect(0, shown, 0);
  return JSON.stringify((await app.graphToPrompt()).output);
}"""


def test_a_closed_blueprint_runs(object_info, stocked_host, page):
    prompt = json.loads(page.evaluate(_CLOSED, blueprint_file("Mask of a word")))
    (number,) = (key for key, node in prompt.items() if node["class_type"] == "MaskPreview")
    assert [node["inputs"]["text"] for node in prompt.values() if node["class_type"] == "LikenessSubjectPrompt"] == [
        "a photo of {a fish}"
    ]
    page.evaluate("() => app.queuePrompt(0, 1)")
    page.wait_for_function(
        "async () => Object.values(await (await fetch('/history?max_items=1')).json())"
        f".some(run => run.outputs['{number}']?.images?.length)",
        timeout=120_000,
    )
