"""What a node shows of a run in the real front end: its drawing, what is kept in RAM, and what was refused."""

import json

import pytest
from likeness.tests import workflows
from likeness.tests.browser import frontend
from likeness.tests.browser.graphs import frontend_graph

_LIVE = """type => {
  const live = app.graph.nodes.find(node => node.type === type).likenessLive;
  return live ? JSON.stringify({ ...live, canvas: [live.canvas.width, live.canvas.height] }) : "null";
}"""
_NODE = "type => app.graph.nodes.find(node => node.type === type)"
# In Nodes 2.0 the drawing stands inside the node's own element.
_DRAWN = f"""type => {{
  const node = ({_NODE})(type), canvas = node.likenessLive.canvas;
  return canvas.closest(`[data-node-id="${{node.id}}"]`) && canvas.getBoundingClientRect().height > 4;
}}"""
_KEPT = """() => app.graph.nodes.find(node => node.type === "AppearancePalette")
  .widgets.find(widget => widget.name === "likeness_kept")"""
_TOASTS = """() => {
  window.toasts = [];
  const toast = app.extensionManager.toast, add = toast.add;
  toast.add = message => { window.toasts.push(message.summary); return add.call(toast, message); };
}"""


@pytest.fixture(scope="module")
def ran(page, client):
    """The page after a guided run."""
    frontend.to_prompt(page, workflows.ui("uremd_guidance"))
    frontend.shorten(page)
    before = json.loads(client.get("/history")).keys()
    page.evaluate("() => app.queuePrompt(0, 1)")
    page.wait_for_function(
        "async known => Object.keys(await (await fetch('/history')).json()).length > known",
        arg=len(before),
        timeout=300_000,
    )
    page.wait_for_function(f"() => ({_KEPT})()", timeout=60_000)
    return page


def live(page, kind: str = "UREMDGuidance") -> dict:
    return json.loads(page.evaluate(_LIVE, kind))


def test_a_guided_run_is_drawn(ran):
    drawn, steps = live(ran), workflows.SHORT["steps"]
    assert sum(number for _, number in drawn["steps"]) == drawn["step"] == steps
    assert any(kind == "guided: appearance" for kind, _ in drawn["steps"])
    assert all(len(values) == len(drawn["curves"]["appearance"]) for values in drawn["curves"].values())
    assert {*drawn["maps"]} == {"generated subject", "attention to the word"} and drawn["canvas"][1] > 2 * 72
    saved = ran.evaluate(
        "() => app.graph.serialize().nodes.find(n => n.type === 'UREMDGuidance').widgets_values.length"
    )
    kept = next(n for n in workflows.ui("uremd_guidance")["nodes"] if n["type"] == "UREMDGuidance")
    assert saved == len(kept["widgets_values"])


def test_kept_features_are_released(ran, client):
    assert json.loads(client.get("/likeness/kept"))["bytes"] > 0
    assert ran.evaluate(f"() => ({_KEPT})().label").endswith("MiB of RAM kept by Likeness")
    ran.evaluate(f"async () => await ({_KEPT})().callback()")
    ran.wait_for_function(f"() => ({_KEPT})().hidden", timeout=60_000)
    assert json.loads(client.get("/likeness/kept")) == {"bytes": 0}


@pytest.fixture(params=[False, True], ids=["classic", "modern"])
def renderer(request, ran):
    """The page in one renderer; true for Nodes 2.0."""
    frontend_graph.render(ran, request.param)
    yield request.param
    frontend_graph.render(ran, False)


def refused(page, kind: str, modern: bool) -> str:
    """The sentence on a node, once it is there and first in a toast."""
    page.wait_for_function(f"() => ({_NODE})('{kind}').likenessLive?.refused", timeout=60_000)
    said = live(page, kind)["refused"]
    assert page.evaluate("() => window.toasts[0]") == said
    if modern:
        page.wait_for_function(_DRAWN, arg=kind, timeout=60_000)
    return said


def test_a_refusal_is_on_its_node_and_first_in_a_toast(ran, renderer):
    ran.evaluate(_TOASTS)
    set_blocks = f"""blocks => {{
      ({_NODE})("UREMDGuidance").widgets.find(widget => widget.name === "map_blocks").value = blocks;
    }}"""
    before = ran.evaluate(f"() => ({_NODE})('UREMDGuidance').widgets.find(w => w.name === 'map_blocks').value")
    ran.evaluate(set_blocks, "output8-3")
    ran.evaluate("() => app.queuePrompt(0, 1)")
    said = refused(ran, "UREMDGuidance", renderer)
    assert said.startswith("Subject Guidance: expected blocks") and said.endswith("change map_blocks.")
    ran.evaluate(set_blocks, before)


def test_a_missing_link_is_on_its_node_and_first_in_a_toast(ran, renderer):
    ran.evaluate(_TOASTS)
    ran.evaluate(f"""() => {{
      const node = ({_NODE})("UREMDGuidance");
      window.cut = ["model", "clip"].map(name => [name, ...[node.getInputNode(node.findInputSlot(name))]]);
      for (const [name] of cut) node.disconnectInput(name);
      node.likenessLive.refused = "";
      app.queuePrompt(0, 1);
    }}""")
    assert refused(ran, "UREMDGuidance", renderer) == (
        "Subject Guidance: expected MODEL for model, CLIP for clip, got no link; connect a node that gives it."
    )
    ran.evaluate(f"""() => {{
      const node = ({_NODE})("UREMDGuidance");
      for (const [name, from] of cut)
        from.connect(from.outputs.findIndex(output => output.type === name.toUpperCase()), node, name);
    }}""")


_IN_SUBGRAPH = """() => {
  const palette = app.graph.nodes.find(node => node.type === "AppearancePalette");
  palette.widgets = palette.widgets.filter(widget => widget.name !== "likeness_kept");
  window.inner = app.graph.convertToSubgraph(new Set([palette])).node.subgraph.nodes
    .find(node => node.type === "AppearancePalette");
  app.api.dispatchEvent(new CustomEvent("execution_success", { detail: {} }));
}"""
_ERROR = """([said, file, kind]) => app.api.dispatchEvent(new CustomEvent("execution_error", { detail: {
  prompt_id: "1", node_id: app.graph.nodes.find(node => node.type === kind).id, node_type: kind,
  executed: [], exception_message: said, exception_type: "ValueError", current_inputs: {}, current_outputs: {},
  traceback: ['  File "/host/execution.py", line 1, in execute\\n', `  File "${file}", line 2, in check\\n`] } }))"""


def test_an_error_of_a_run_is_on_the_node_that_it_names(ran, renderer):
    ran.evaluate(_TOASTS)
    sentence = f"Appearance Palette: expected {'more' if renderer else 'much'}, got less; change it."
    folder = ran.evaluate("async () => (await app.api.getExtensions()).find(path => path.endsWith('/live.js'))")
    ran.evaluate(_ERROR, [sentence, "/host/custom_nodes/another-pack/nodes.py", "KSampler"])
    assert (live(ran, "AppearancePalette") or {}).get("refused") != sentence
    ours = f"/host/custom_nodes/{folder.split('/')[-2]}/patching/palette.py"
    ran.evaluate(_ERROR, [sentence, ours, "KSampler"])
    assert live(ran, "AppearancePalette")["refused"] == sentence
    assert refused(ran, "AppearancePalette", renderer) == sentence
    other = sentence.replace("expected", "wanted")
    ran.evaluate(_ERROR, [other, ours, "UREMDGuidance"])
    assert live(ran, "AppearancePalette")["refused"] == live(ran)["refused"] == other


def test_progress_belongs_to_the_node_that_runs(ran):
    """Another sampler with as many steps moves nothing."""
    shown = live(ran)
    count = sum(number for _, number in shown["steps"])
    tell = "([node, max]) => app.api.dispatchEvent(new CustomEvent('progress', { detail: { value: 1, max, node } }))"
    ran.evaluate(tell, ["another", count])
    assert live(ran)["step"] == count
    ran.evaluate(tell, [shown["runner"], count])
    assert live(ran)["step"] == 1


def test_kept_features_are_released_inside_a_subgraph(ran, client):
    """Put last among those of this graph, which it changes."""
    frontend.to_prompt(ran, workflows.ui("uremd_guidance"))
    frontend.shorten(ran)
    ran.evaluate("() => app.queuePrompt(0, 1)")
    ran.wait_for_function(f"() => ({_KEPT})()?.options.hidden === false", timeout=300_000)
    assert json.loads(client.get("/likeness/kept"))["bytes"] > 0
    ran.evaluate(_IN_SUBGRAPH)
    ran.wait_for_function("() => inner.widgets.find(widget => widget.name === 'likeness_kept')", timeout=60_000)


def test_the_map_of_a_word_is_drawn(ran, client):
    frontend.to_prompt(ran, workflows.ui("attention_maps"))
    frontend.shorten(ran)
    ran.evaluate("() => app.queuePrompt(0, 1)")
    done = """() => app.graph.nodes.filter(node => node.type === "LikenessAttentionMaps").every(node => {
      const { maps = {}, steps = [], step = 0 } = node.likenessLive ?? {};
      return maps["attention to the word"] && step === steps[0][1];
    })"""
    ran.wait_for_function(done, timeout=300_000)
    drawn = live(ran, "LikenessAttentionMaps")
    ((kind, count),) = drawn["steps"]
    assert kind == "attention to the word" and count > 1
