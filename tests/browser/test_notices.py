"""What the real front end shows on a node: sentences about a run, and widgets that the node refuses."""

import json

from likeness.tests import workflows
from likeness.tests.browser import frontend

_SET = """([type, values]) => {
  for (const node of app.graph.nodes)
    if (node.type === type)
      for (const widget of node.widgets ?? []) if (widget.name in values) widget.value = values[widget.name];
}"""
_TEXTS = """type => app.graph.nodes.filter(node => node.type === type).map(
  node => (node.widgets ?? []).filter(widget => widget.name === "$$node-text-preview").map(widget => widget.value)
).flat()"""


def load(page, name: str, kind: str, **widgets) -> None:
    """Loads a short workflow with other values in the widgets of one kind of node."""
    frontend.to_prompt(page, workflows.ui(name))
    frontend.shorten(page)
    page.evaluate(_SET, [kind, widgets])


def test_a_sentence_about_the_run_is_on_its_node(page, client):
    load(page, "joint_image_sampler", "JointImageSampler", steps=1, start_percent=0.3, end_percent=0.301)
    page.evaluate("() => app.queuePrompt(0, 1)")
    page.wait_for_function(f"() => ({_TEXTS})('JointImageSampler').length", timeout=120_000)
    (text,) = page.evaluate(_TEXTS, "JointImageSampler")
    assert text.startswith("Warning: ") and "start_percent 0.3 and end_percent 0.301" in text
    while json.loads(client.get("/queue"))["queue_running"]:
        page.wait_for_timeout(100)


def test_a_refused_widget_is_on_its_node_before_anything_runs(page, client):
    before = json.loads(client.get("/history")).keys()
    load(page, "segment", "LikenessAttentionMaps", blocks="output8-3")
    page.evaluate("() => app.queuePrompt(0, 1)")
    page.wait_for_function("() => app.lastNodeErrors && Object.keys(app.lastNodeErrors).length", timeout=60_000)
    (refused,) = json.loads(page.evaluate("() => JSON.stringify(app.lastNodeErrors)")).values()
    assert refused["class_type"] == "LikenessAttentionMaps"
    assert {error["details"].split(" - ", 1)[1] for error in refused["errors"]} == {
        "Attention Maps of a Word: expected blocks such as output4, output3-8 or double3-10, or one of early, late, "
        "vital, content, encoder, decoder, all, got 'output8-3'; change blocks."
    }
    assert json.loads(client.get("/history")).keys() == before
