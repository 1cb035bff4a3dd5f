"""The pack's scripts in the real front end: folded and exclusive widgets, sizes, colors, suggestions."""

import json

import pytest
from likeness.nodes import node_classes

SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in node_classes()}
_MADE = """kind => {
  const node = LiteGraph.createNode(kind);
  app.graph.add(node);
  return node.id;
}"""
_STATE = """id => {
  const node = app.graph.getNodeById(id);
  const widgets = (node.widgets ?? []).map(widget => [widget.name, [!!widget.hidden, !!widget.options?.hidden]]);
  return JSON.stringify([Array.from(node.size), Object.fromEntries(widgets)]);
}"""
_CHOOSE = """([id, name, value]) => {
  const node = app.graph.getNodeById(id), widget = node.widgets.find(widget => widget.name === name);
  widget.value = value;
  widget.callback(value, app.canvas, node);
}"""


@pytest.fixture
def made(page):
    """Adds a node to an empty graph, and returns its id."""
    page.evaluate("() => app.graph.clear()")
    return lambda kind: page.evaluate(_MADE, kind)


def state(page, node) -> tuple[list[float], dict[str, list[bool]]]:
    size, widgets = json.loads(page.evaluate(_STATE, node))
    return size, widgets


@pytest.mark.parametrize("kind", ["UREMDGuidance", "LikenessSubject"])
def test_advanced_widgets_fold_and_unfold(page, made, kind):
    node = made(kind)
    advanced = [i.id for i in SCHEMAS[kind].inputs if i.as_dict().get("advanced") and hasattr(i, "default")]
    assert len(advanced) > 2
    folded, shown = state(page, node)
    assert all(shown[name] == [True, False] for name in advanced)  # the Vue renderer folds by itself
    page.evaluate("id => app.graph.getNodeById(id).toggleAdvanced()", node)
    unfolded, shown = state(page, node)
    assert not any(shown[name][0] for name in advanced) and unfolded[1] > folded[1]
    page.evaluate(
        "id => { const node = app.graph.getNodeById(id); node.onTitleButtonClick(node.title_buttons[0], app.canvas); }",
        node,
    )
    assert all(state(page, node)[1][name][0] for name in advanced)


@pytest.mark.parametrize(
    ("kind", "chooser", "value", "one", "other"),
    [
        ("MultiSourceAttnSwap", "lambdas_by", "percent", "lambda_2", "lambda_2_percent"),
        ("StepBlendedSampler", "switch_by", "percent", "switch_step", "switch_percent"),
    ],
)
def test_one_of_a_pair_is_shown(page, made, kind, chooser, value, one, other):
    node = made(kind)
    shown = state(page, node)[1]
    assert shown[one] == [False, False] and shown[other] == [True, True]
    page.evaluate(_CHOOSE, [node, chooser, value])
    shown = state(page, node)[1]
    assert shown[one] == [True, True] and shown[other] == [False, False]
    kept = page.evaluate(
        "id => JSON.stringify(app.graph.serialize().nodes.find(n => n.id == id).widgets_values.length)", node
    )
    constants = [i for i in SCHEMAS[kind].inputs if hasattr(i, "default") and i.io_type != "COMFY_MULTITYPED_V3"]
    assert int(kept) == len(constants) + (kind == "StepBlendedSampler")  # and the seed's control


def test_a_subject_prompt_replaces_text_and_word(page, made):
    node, prompt = made("UREMDGuidance"), page.evaluate(_MADE, "LikenessSubjectPrompt")
    assert state(page, node)[1]["text"] == [False, False]
    page.evaluate(
        """([from, to]) => {
          const target = app.graph.getNodeById(to);
          app.graph.getNodeById(from).connect(4, target, target.inputs.findIndex(i => i.name === "subject_prompt"));
        }""",
        [prompt, node],
    )
    shown = state(page, node)[1]
    assert shown["text"] == shown["word"] == [True, True]
    page.evaluate("id => app.graph.getNodeById(id).disconnectInput('subject_prompt')", node)
    assert state(page, node)[1]["text"] == [False, False]


def test_a_linked_widget_is_never_hidden(page, made):
    node, source = made("UREMDGuidance"), page.evaluate(_MADE, "LikenessDemoSubject")
    page.evaluate(
        """([from, to]) => {
          const target = app.graph.getNodeById(to);
          app.graph.getNodeById(from).connect(2, target, target.inputs.findIndex(i => i.name === "map_blocks"));
        }""",
        [source, node],
    )
    shown = state(page, node)[1]
    assert shown["map_blocks"] == [False, False] and shown["threshold"] == [True, False]


def test_new_nodes_are_wide_enough(page, made):
    assert state(page, made("LikenessLossCurves"))[0] == [420, 320]
    assert state(page, made("LikenessSampler"))[0][0] == 360
    assert state(page, made("LikenessDemoModel"))[0][0] == 360  # it has no widgets


def test_sockets_have_colors_and_suggestions(page):
    types = {s.get_io_type() for schema in SCHEMAS.values() for s in schema.outputs} - {"*"}
    ours = sorted(kind for kind in types if kind.startswith("LIKENESS_"))
    assert len(ours) == 9
    found = json.loads(
        page.evaluate(
            """types => JSON.stringify(types.map(type => [
              LGraphCanvas.link_type_colors[type], app.canvas.default_connection_color_byType[type],
              getComputedStyle(document.body).getPropertyValue(`--color-datatype-${type}`).trim(),
              LiteGraph.slot_types_default_out[type][0], LiteGraph.slot_types_default_in[type][0],
            ]))""",
            ours,
        )
    )
    assert len({colors for colors, *_ in found}) == len(ours)
    for kind, (link, slot, vue, taker, giver) in zip(ours, found, strict=True):
        assert link == slot == vue and link.startswith("#"), kind
        takes = [i.get_io_type() for i in SCHEMAS[taker].inputs]
        assert any(kind in name.split(",") for name in takes), (kind, taker)
        assert kind in [o.get_io_type() for o in SCHEMAS[giver].outputs], (kind, giver)
    page.evaluate(
        "types => Object.assign(LGraphCanvas.link_type_colors, Object.fromEntries(types.map(t => [t, ''])))", ours
    )
    assert page.evaluate("type => LGraphCanvas.link_type_colors[type]", ours[0]) == found[0][0]
