"""The editor in Chinese: titles, sockets, widgets and help pages, and an English sentence that names a node."""

import json
from pathlib import Path

import pytest
from likeness.tests.browser import frontend
from likeness.tests.browser.test_help import LOADED, MEASURED, OPEN

CHINESE = json.loads((Path(__file__).resolve().parents[2] / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
_MADE = """kind => {
  const node = LiteGraph.createNode(kind);
  app.graph.add(node);
  const shown = slot => slot.label || slot.localized_name || slot.name;
  const named = slots => Object.fromEntries(slots.map(slot => [slot.name.replace(".", "_"), shown(slot)]));
  const saved = app.graph.serialize().nodes.at(-1).inputs;
  return JSON.stringify({
    title: node.title, inputs: named(node.inputs), widgets: named(node.widgets), outputs: node.outputs.map(shown),
    saved: saved.map(input => input.label).filter(Boolean),
  });
}"""
_REFUSED = """([said, file]) => {
  app.graph.clear();
  const [failed, named] = ["KSampler", "AppearancePalette"].map(kind => LiteGraph.createNode(kind));
  app.graph.add(failed);
  app.graph.add(named);
  app.api.dispatchEvent(new CustomEvent("execution_error", { detail: {
    prompt_id: "1", node_id: failed.id, node_type: "KSampler", executed: [], exception_message: said,
    exception_type: "ValueError", current_inputs: {}, current_outputs: {},
    traceback: [`  File "${file}", line 2, in check\\n`] } }));
  return named.likenessLive?.refused;
}"""


@pytest.fixture(scope="module")
def chinese(chromium, stocked_host):
    page = frontend.open_front_end(chromium, stocked_host.client.address, 1280, 800, locale="zh-CN")
    page.evaluate("() => { app.canvas.pause_rendering = true; app.graph.clear(); }")
    return page


@pytest.mark.parametrize("kind", ["LikenessSampler", "LikenessSubject"])
def test_a_node_is_in_chinese(chinese, kind):
    made, named = json.loads(chinese.evaluate(_MADE, kind)), CHINESE[kind]
    assert made["title"] == named["display_name"]
    for name, shown in {**made["inputs"], **made["widgets"]}.items():
        assert shown == named["inputs"].get(name, {}).get("name", shown), name
    outputs = [named["outputs"][str(i)].get("name", shown) for i, shown in enumerate(made["outputs"])]
    assert made["outputs"] == outputs
    # A label that is saved would be shown in every language: only those that are alike in all may stay.
    assert {*made["saved"]} <= {entry["name"] for entry in named["inputs"].values()}
    assert len({*made["inputs"]} & {*named["inputs"]}) > 4


def test_a_sentence_finds_its_translated_node(chinese):
    sentence = "Appearance Palette: expected more, got less; change it."
    folder = chinese.evaluate("async () => (await app.api.getExtensions()).find(path => path.endsWith('/live.js'))")
    file = f"/host/custom_nodes/{folder.split('/')[-2]}/patching/palette.py"
    assert chinese.evaluate(_REFUSED, [sentence, file]) == sentence


@pytest.mark.parametrize("kind", ["LikenessSampler", "LikenessMetrics"])
def test_a_help_page_is_in_chinese_and_fits(chinese, kind):
    chinese.evaluate(OPEN, kind)
    chinese.wait_for_function(LOADED, arg=CHINESE[kind]["display_name"], timeout=60_000)
    found = chinese.evaluate(MEASURED)
    assert found["wide"] == [] and found["rows"] > 3 and all(width for _, width in found["pictures"])
