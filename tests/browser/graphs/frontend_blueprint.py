"""Blueprints in the real front end, which makes their file format."""

from __future__ import annotations

import json
from typing import Any

from . import frontend_graph
from .blueprints import Blueprint
from .frontend_graph import Plan

# A blueprint has its note in its description.
_OPEN = """async graph => {
  await app.loadGraphData(graph, true, true, "workflow");
  app.graph.remove(app.graph.nodes.find(node => node.type === "MarkdownNote"));
}"""
_CLOSE = """([title, inputs, outputs, extra]) => {
  const graph = app.graph;
  const all = new Set([...graph.nodes, ...graph.groups, ...graph.reroutes.values()]);
  const { subgraph, node } = graph.convertToSubgraph(all);
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


def export(page, blueprint: Blueprint, plan: Plan, known: dict[str, list[float]]) -> dict[str, Any]:
    """The file of a blueprint, whose graph is the plan. known: measured sizes by signature, to which it adds."""
    graph, ids = blueprint.graph, blueprint.graph.ids()
    (opened,) = frontend_graph.export(page, [plan], known)
    page.evaluate(_OPEN, opened)
    inputs = [
        [name, kind, [[ids[found], slot] for found, slot in targets]]
        for name, (kind, targets) in blueprint.inputs.items()
    ]
    outputs = [[name, ids[link.node], link.slot] for name, link in blueprint.outputs.items()]
    extra = {"BlueprintDescription": graph.note, "BlueprintSearchAliases": list(blueprint.aliases)}
    text = page.evaluate(_CLOSE, [graph.name, inputs, outputs, extra])
    return json.loads(frontend_graph.with_steady_ids(text, graph.name))
