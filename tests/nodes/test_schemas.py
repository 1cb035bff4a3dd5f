"""Schemas of the nodes: complete, explained, and stable, so that saved workflows keep working."""

import json
import os
import re
from pathlib import Path

from likeness.nodes import node_classes
from likeness.nodes._api import CATEGORY, io, schema, window_inputs
from likeness.tests import workflows

PUBLIC = (
    "AppearancePalette",
    "UREMDGuidance",
    "LayoutTemplate",
    "StepBlendedSampler",
    "MultiSourceAttnSwap",
    "AdaptiveMask",
    "JointImageSampler",
)
ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("schemas.json")


def described(node) -> dict:
    found = node.GET_SCHEMA()
    inputs = [[i.id, i.io_type, i.optional, getattr(i, "default", None)] for i in found.inputs]
    return {"inputs": inputs, "outputs": [[o.id, o.io_type] for o in found.outputs]}


def test_saved_workflows_keep_their_meaning():
    """Widget values are stored by position: inputs may only be appended, and defaults never change."""
    now = {n.GET_SCHEMA().node_id: described(n) for n in node_classes()}
    if os.environ.get("UPDATE_SCHEMAS"):
        lines = [f"  {json.dumps(node)}: {json.dumps(content)}" for node, content in sorted(now.items())]
        SNAPSHOT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    frozen = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    for node, content in frozen.items():
        assert node in now, f"{node} is gone; saved workflows need it"
        for kind in ("inputs", "outputs"):
            kept = now[node][kind][: len(content[kind])]
            assert kept == content[kind], f"{node}: {kind} changed from {content[kind]} to {kept}"
    assert now == json.loads(json.dumps(frozen)), (
        "a node or an input is new; run this test once with UPDATE_SCHEMAS=1 and commit schemas.json"
    )


def test_schema_is_complete(node):
    found = node.GET_SCHEMA()
    assert found.node_id == node.__name__
    assert found.node_id.startswith("Likeness") or found.node_id in PUBLIC
    assert found.category.split("/")[0] == CATEGORY
    assert found.display_name
    assert found.description.endswith(".")
    assert node.__dict__.keys() >= {"define_schema", "execute"}


def test_every_input_and_output_has_a_tooltip(node):
    found = node.GET_SCHEMA()
    for socket in (*found.inputs, *found.outputs):
        assert socket.tooltip, f"{found.node_id}.{socket.id} has no tooltip"
        assert socket.tooltip.rstrip().endswith((".", "?")), (
            f"{found.node_id}.{socket.id}: {socket.tooltip!r} is no sentence"
        )


def test_numbers_name_their_neutral_value(node):
    for entry in node.GET_SCHEMA().inputs:
        if isinstance(entry, io.Float.Input) and entry.id not in ("start_percent", "end_percent"):
            assert re.search("neutral", entry.tooltip or "", re.IGNORECASE), (
                f"{node.__name__}.{entry.id}: {entry.tooltip!r}"
            )


def test_help_page_describes_every_input_and_output(node):
    found = node.GET_SCHEMA()
    page = (ROOT / "web" / "docs" / f"{found.node_id}.md").read_text(encoding="utf-8")
    for entry in found.inputs:
        assert re.search(rf"\b{entry.id}\b", page), f"{found.node_id}.md does not explain the input {entry.id}"
    for output in found.outputs:
        assert re.search(rf"\b({output.id}|{output.display_name})\b", page), (
            f"{found.node_id}.md does not explain the output {output.id}"
        )


def test_node_is_in_a_workflow_of_both_formats(node):
    name = node.GET_SCHEMA().node_id
    for workflow in workflows.NAMES:
        if any(entry["class_type"] == name for entry in workflows.api(workflow).values()):
            assert name in {entry["type"] for entry in workflows.ui(workflow)["nodes"]}
            return
    raise AssertionError(f"no workflow uses {name}")


def test_node_list_is_complete():
    listed = json.loads((ROOT / "node_list.json").read_text(encoding="utf-8"))
    assert listed.keys() == {n.GET_SCHEMA().node_id for n in node_classes()}


def test_help_pages_have_nodes():
    assert {p.stem for p in (ROOT / "web" / "docs").glob("*.md")} == {n.GET_SCHEMA().node_id for n in node_classes()}


def test_ids_do_not_collide_with_the_hosts_own():
    import nodes

    assert not {n.GET_SCHEMA().node_id for n in node_classes()} & nodes.NODE_CLASS_MAPPINGS.keys()


def test_fields_unknown_to_the_host_are_dropped():
    built = schema(
        "X",
        display_name="x",
        description="d.",
        category=CATEGORY,
        of_a_later_host=True,
        inputs=window_inputs(0.25, 0.75),
    )
    assert [(i.id, i.default) for i in built.inputs] == [("start_percent", 0.25), ("end_percent", 0.75)]
    assert all(i.as_dict()["advanced"] for i in built.inputs)


def test_hidden_inputs_are_a_nodes_own():
    """The host adds hidden inputs to output nodes; no other node may get them."""
    for node in node_classes():
        found = node.GET_SCHEMA()
        assert found.is_output_node or set(found.hidden) <= {io.Hidden.unique_id}, found.node_id
