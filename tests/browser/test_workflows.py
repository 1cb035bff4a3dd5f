"""The shipped UI workflows in the real front end: they load, equal their API twins, and run."""

import json
import re
import time
from pathlib import Path

import pytest
from likeness.nodes import node_classes
from likeness.tests import workflows
from likeness.tests.browser import frontend, geometry
from likeness.tests.browser.graphs import view

ROOT = Path(__file__).resolve().parents[2]
ALL = workflows.NAMES + workflows.TEMPLATES
FILES = {
    *("CheckpointLoaderSimple", "UNETLoader", "CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "VAELoader"),
    *("LoraLoader", "LoraLoaderModelOnly", "LoadImage", "LoadImageMask"),
}
"""Loaders of a user's own files, which the front end marks until they are there."""
START = {
    *("MarkdownNote", "CLIPTextEncode", "PrimitiveString", "PrimitiveStringMultiline"),
    *("LikenessSubjectPrompt", "LikenessPromptList", "LikenessSubject", "LikenessDemoSubject"),
}
"""What a reader needs first: the note, the subject and the prompts."""


def test_every_ui_workflow_has_an_api_twin():
    shown = {path for folder in (workflows.FOLDER, workflows.FOLDER / "demo") for path in folder.glob("*.json")}
    assert shown == {workflows.ui_file(path.stem) for path in (workflows.FOLDER / "api").glob("*.json")}


@pytest.fixture(scope="module")
def recorded(page):
    page.set_viewport_size(dict(zip(("width", "height"), view.WINDOW, strict=True)))
    page.wait_for_function("width => app.canvas.canvas.clientWidth === width", arg=view.WINDOW[0])
    geometry.record(page)
    return page


@pytest.mark.parametrize("name", ALL)
def test_workflow_loads_is_seen_whole_and_exports_to_its_api_twin(recorded, name):
    page = recorded
    graph = workflows.ui(name)
    assert json.loads(frontend.to_prompt(page, graph)) == workflows.api(name)
    missing = page.evaluate(
        "() => app.graph.nodes.filter(n => n.has_errors || !LiteGraph.registered_node_types[n.type]).map(n => n.type)"
    )
    asked = set() if name.startswith("0") or name in workflows.NAMES else FILES
    assert set(missing) <= asked
    scale, shown = geometry.opened(page)
    geometry.show_all(page)
    seen = geometry.look(page)
    assert scale >= view.SCALES[0] - 0.001
    if name in workflows.NAMES:
        boxes = seen.boxes()
        assert not [
            node["title"] for key, node in seen.nodes.items() if node["type"] in START and not shown.holds(boxes[key])
        ]
    assert seen.overlaps() == [] and seen.hidden_links() == [] and seen.cut() == []


def queued(page, client) -> dict:
    """Queues the shown workflow. Returns the server's record of the finished run."""

    def latest() -> dict:
        return json.loads(client.get("/history", max_items="1"))

    before = latest()
    page.evaluate("() => app.queuePrompt(0, 1)")
    deadline = time.monotonic() + 600
    while (new := latest()).keys() == before.keys():
        assert time.monotonic() < deadline, "it did not end"
        page.wait_for_timeout(100)
    (record,) = new.values()
    assert record["status"]["status_str"] == "success", record["status"]["messages"][-1]
    return record


# Few that have every node: what the front end would queue is the API twin, which the server's tests run for each.
@pytest.mark.parametrize("name", workflows.covering({node.GET_SCHEMA().node_id for node in node_classes()}))
def test_workflow_runs_from_the_front_end(page, client, name):
    frontend.to_prompt(page, workflows.ui(name))
    frontend.shorten(page)
    record = queued(page, client)
    assert any(output.get("images") for output in record["outputs"].values())


@pytest.mark.full
@pytest.mark.parametrize("name", workflows.NAMES)
def test_workflow_runs_with_the_steps_it_is_shipped_with(page, client, name):
    frontend.to_prompt(page, workflows.ui(name))
    record = queued(page, client)
    assert any(output.get("images") for output in record["outputs"].values())


def test_guidance_says_its_losses_and_shows_their_curves(page, client):
    """The node shows text during a run, the other node a picture after it; the workflow stores neither."""
    graph, kept = workflows.ui("uremd_guidance"), workflows.api("uremd_guidance")
    frontend.to_prompt(page, graph)
    page.evaluate(
        """() => {
          window.said = [];
          app.canvas.pause_rendering = false;
          for (const node of app.graph.nodes.filter(n => n.type === "KSampler"))
            node.widgets.find(w => w.name === "steps").value = 8;
          app.api.addEventListener("progress_text", ({ detail }) => window.said.push(detail.text));
        }"""
    )
    queued(page, client)
    page.evaluate(
        "() => { app.canvas.selectItems(app.graph.nodes); app.canvas.fitViewToSelectionAnimated({ duration: 1 }); }"
    )
    page.wait_for_function(
        "() => app.graph.nodes.find(n => n.type === 'LikenessLossCurves').imgs?.[0]?.naturalWidth > 300"
    )
    said = page.evaluate("() => window.said")
    guided = [text for text in said if "guided step" in text]  # below the sentences about the windows
    line = r"(.+\n)*guided step \d+ of \d+: appearance [\d.]+"
    assert len(guided) > 3 and all(re.fullmatch(line, text) for text in guided), said
    shown = (
        "() => app.graph.nodes.find(n => n.type === 'UREMDGuidance').widgets.map(w => "
        "w.value).includes(window.said.at(-1))"
    )
    assert page.evaluate(shown), "the last line is not on the node"
    for node in ("18", "21"):
        kept[node]["inputs"]["steps"] = 8
    assert json.loads(page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)")) == kept
    (saved,) = [
        n
        for n in json.loads(page.evaluate("() => JSON.stringify(app.graph.serialize().nodes)"))
        if n["type"] == "UREMDGuidance"
    ]
    assert saved["widgets_values"] == next(n["widgets_values"] for n in graph["nodes"] if n["type"] == "UREMDGuidance")


def test_widgets_of_the_front_end_are_those_of_the_schema(page):
    """Saved widget values are positional: the front end must build one widget per constant input, in the schema's
    order."""
    for node in node_classes():
        schema = node.GET_SCHEMA()
        made = page.evaluate("id => (LiteGraph.createNode(id).widgets ?? []).map(w => w.name)", schema.node_id)
        given = [i for i in schema.inputs if not getattr(i, "force_input", None)]
        constants = [i.id for i in given if i.io_type in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")]
        # The control of a seed that says "fixed" in the schema has that word for a name.
        assert [w for w in made if w not in ("control_after_generate", "fixed")] == constants


def test_templates_are_offered(page):
    listed = page.evaluate("async () => JSON.stringify(await (await fetch('/workflow_templates')).json())")
    assert sorted(json.loads(listed)["likeness"]) == workflows.TEMPLATES


def test_help_page_opens_in_the_front_end(page):
    """The front end tries the page of the language, then the bare name, and finds our page."""
    for node in node_classes():
        name = node.GET_SCHEMA().node_id
        module = page.evaluate("async id => (await (await fetch('/object_info/' + id)).json())[id].python_module", name)
        folder = module.removeprefix("custom_nodes.")
        text = page.evaluate("async path => await (await fetch(path)).text()", f"/extensions/{folder}/docs/{name}.md")
        assert text == (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
