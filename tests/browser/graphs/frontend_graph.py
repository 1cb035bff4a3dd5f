"""Graphs in the real front end, which makes their UI format from the API format and measures their nodes."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import sizes, written
from .declared import Graph
from .layout import Group

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_LOAD = """async ([prompt, wanted, title, note, fold]) => {
  await app.loadApiJson(prompt, "workflow");
  for (const node of app.graph.nodes) {
    const { title, models } = wanted[node.id];
    for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
    // A linked widget keeps the value that its id had in the graph before.
    for (const input of node.inputs ?? [])
      if (input.link != null && input.widget)
        node.widgets.find(widget => widget.name === input.widget.name).value = node.constructor.nodeData
          .inputs[input.widget.name]?.default ?? "";
    if (title) node.title = title;
    if (models.length) node.properties.models = models;
  }
  if (fold) {
    const inside = new Set(fold.inside.map(id => app.graph.getNodeById(id)));
    const { subgraph, node } = app.graph.convertToSubgraph(inside);
    subgraph.name = node.title = fold.title;
  }
  const remark = LiteGraph.createNode("MarkdownNote");
  remark.title = title;
  app.graph.add(remark);
  remark.widgets[0].value = note;  // adding a node restores the value that its id had before
  return JSON.stringify({ ...app.graph.serialize(), groups: [], extra: {} });
}"""
_OPEN = """async graph => {
  await app.loadGraphData(graph, true, true, "workflow", { openSource: "template" });
}"""
_CLASSIC = """choices => app.graph.nodes.filter(node => node.type !== "MarkdownNote").map(node => {
  const linked = (node.inputs ?? []).filter(input => input.link != null).map(input => input.name).sort();
  const chosen = (node.widgets ?? []).filter(widget => choices.includes(widget.name) && typeof widget.value == "string")
    .map(widget => `${widget.name}=${widget.value}`).sort();
  const kind = node.isSubgraphNode() ? node.title : node.type;
  return [node.id, `${kind}(${[...linked, ...chosen].join(", ")})`, ...Array.from(node.computeSize(), Math.round)];
})"""
# What a node needs is the height it has while it may be as low as it likes.
_MODERN = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const height = node => document.querySelector(`[data-node-id="${node.id}"]`)?.offsetHeight ?? 0;
  for (let i = 0; i < 2; i++) await frame();
  for (const node of app.graph.nodes) node.setSize([Math.max(320, node.computeSize()[0]), 1]);
  let steady = 0, before = [];
  for (let i = 0; steady < 4 && i < 100; i++) {
    await frame();
    const heights = app.graph.nodes.map(height);
    steady = heights.every((value, index) => value && value === before[index]) ? steady + 1 : 0;
    before = heights;
  }
  return Object.fromEntries(app.graph.nodes.map(node => [node.id, height(node) - 30]));
}"""
_RENDERER = """async modern => {
  await app.extensionManager.setting.set("Comfy.VueNodes.Enabled", modern);
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
}"""


@dataclass
class Plan:
    """A graph in API format with everything that the UI format has beside it.

    groups: None, if they follow from the graph. titles, shown, models: of nodes by id, where declared. inside: ids of
    the nodes in its closed subgraph, whose own id follows theirs and whose title is `folded`.
    """

    name: str
    note: str
    prompt: Mapping[str, Any]
    groups: Sequence[Group] | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    models: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)
    folded: str = ""
    inside: Sequence[str] = ()


def declared(graph: Graph, object_info: Mapping[str, Any]) -> Plan:
    """The plan of a declared graph."""
    ids, folded = graph.ids(), graph.folded()
    return Plan(
        graph.name,
        graph.note,
        graph.flat(object_info),
        graph.groups(),
        {ids[found]: found.title for found in graph.nodes()},
        {ids[found]: found.shown for found in graph.nodes()},
        {ids[found]: found.models for found in graph.nodes()},
        folded.title if folded else "",
        [ids[found] for found in folded.inside] if folded else (),
    )


def export(page, plans: Sequence[Plan], known: dict[str, list[float]]) -> list[dict[str, Any]]:
    """The UI formats of plans. known: measured sizes by signature; those it lacks are measured and added."""
    loaded = [load(page, plan) for plan in plans]
    whole = {plan.name: load(page, plan, fold=False) for plan in plans if plan.folded}
    own = [open_and_measure(page, graph) for graph in loaded]
    own_of_whole = {name: open_and_measure(page, graph) for name, graph in whole.items()}
    render(page, True)
    for graph, sizes_of in zip([*loaded, *whole.values()], [*own, *own_of_whole.values()], strict=True):
        if {name for name, *_ in sizes_of.values()} <= known.keys():
            continue
        open_graph(page, graph)
        heights = modern_heights(page)
        known |= {name: [width, height, heights[node]] for node, (name, width, height) in sizes_of.items()}
    render(page, False)
    found = []
    for plan, graph, sizes_of in zip(plans, loaded, own, strict=True):
        room = {
            node: sizes.size(name.partition("(")[0], known[name], plan.shown.get(node, (0, 0)))
            for node, (name, *_) in (own_of_whole.get(plan.name, {}) | sizes_of).items()
        }
        found.append(written.laid_out(graph, plan, room))
    return found


def load(page, plan: Plan, fold: bool = True) -> dict[str, Any]:
    """Loads a plan without a layout. Returns its UI format, with the closed subgraph if `fold` is set."""
    wanted = {name: {"title": plan.titles.get(name, ""), "models": plan.models.get(name, [])} for name in plan.prompt}
    closed = {"title": plan.folded, "inside": list(plan.inside)} if plan.folded and fold else None
    text = page.evaluate(_LOAD, [plan.prompt, wanted, written.NOTE, plan.note, closed])
    return json.loads(with_steady_ids(text, plan.name))


def with_steady_ids(text: str, name: str) -> str:
    """The text with identifiers that depend on the name alone, so that another export changes nothing."""
    found = {old: index for index, old in enumerate(dict.fromkeys(_UUID.findall(text)))}
    return _UUID.sub(lambda old: str(uuid.uuid5(uuid.NAMESPACE_URL, f"likeness/{name}/{found[old[0]]}")), text)


def open_graph(page, graph: Mapping[str, Any]) -> None:
    """Opens a graph as the template browser does."""
    page.evaluate(_OPEN, graph)


def open_and_measure(page, graph: Mapping[str, Any]) -> dict[str, tuple[str, float, float]]:
    """Opens a graph. Returns signature and classic size of each node by id."""
    open_graph(page, graph)
    return measured(page)


def measured(page) -> dict[str, tuple[str, float, float]]:
    """Signature, and width and height that the classic renderer needs, of each node of the shown graph by id.

    A signature names everything that a node's size depends on.
    """
    return {str(node): (name, width, height) for node, name, width, height in page.evaluate(_CLASSIC, sizes.CHOICES)}


def modern_heights(page) -> dict[str, float]:
    """Heights that the nodes of the shown graph need in Nodes 2.0, by id. It makes the nodes as low as they may be."""
    return page.evaluate(_MODERN)


def render(page, modern: bool) -> None:
    """Draws in Nodes 2.0, or in the classic way."""
    page.evaluate(_RENDERER, modern)
