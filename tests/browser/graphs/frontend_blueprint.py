"""Blueprints in the real front end, which makes their file format."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from .blueprints import Blueprint
from .frontend_graph import measured, place_all

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_CLOSE = """([title, inputs, outputs, extra]) => {
  const graph = app.graph;
  const { subgraph, node } = graph.convertToSubgraph(new Set([...graph.nodes, ...graph.groups]));
  while (subgraph.inputs.length) subgraph.removeInput(subgraph.inputs[0]);
  const inner = id => subgraph.nodes.find(one => String(one.id) === id);
  for (const [name, type, targets] of inputs) {
    const input = subgraph.addInput(name, type);
    for (const [id, slot] of targets) input.connect(inner(id).inputs[inner(id).findInputSlot(slot)], inner(id));
    const shown = node.widgets?.find(widget => widget.name === name);
    // Adding a node restores the values that its id had before.
    if (shown) shown.value = inner(targets[0][0]).widgets.find(widget => widget.name === targets[0][1]).value;
  }
  for (const [name, id, slot] of outputs) {
    const source = inner(id);
    subgraph.addOutput(name, source.outputs[slot].type).connect(source.outputs[slot], source);
  }
  subgraph.name = node.title = title;
  const tops = subgraph.nodes.map(one => one.pos[1]), lefts = subgraph.nodes.map(one => one.pos[0]);
  const right = Math.max(...subgraph.nodes.map(one => one.pos[0] + one.size[0]));
  subgraph.inputNode.pos = [Math.min(...lefts) - 260, Math.min(...tops)];
  subgraph.outputNode.pos = [right + 100, Math.min(...tops)];
  node.pos = [0, 0];
  node.size = [360, node.computeSize()[1]];
  const saved = graph.serialize();
  saved.extra = extra;
  return JSON.stringify(saved);
}"""


def export(page, blueprint: Blueprint, prompt: Mapping[str, Any]) -> dict[str, Any]:
    """The file of a blueprint, whose graph is `prompt` in API format."""
    graph, ids = blueprint.graph, blueprint.graph.ids()
    place_all(page, *measured(page, graph, prompt))
    inputs = [
        [name, kind, [[ids[found], slot] for found, slot in targets]]
        for name, (kind, targets) in blueprint.inputs.items()
    ]
    outputs = [[name, ids[link.node], link.slot] for name, link in blueprint.outputs.items()]
    extra = {"BlueprintDescription": graph.note, "BlueprintSearchAliases": list(blueprint.aliases)}
    text = page.evaluate(_CLOSE, [graph.name, inputs, outputs, extra])
    return json.loads(_with_steady_ids(text, graph.name))


def _with_steady_ids(text: str, name: str) -> str:
    """The text with identifiers that depend on the name alone, so that another export changes nothing."""
    found = {old: index for index, old in enumerate(dict.fromkeys(_UUID.findall(text)))}
    return _UUID.sub(lambda old: str(uuid.uuid5(uuid.NAMESPACE_URL, f"likeness/{name}/{found[old[0]]}")), text)
