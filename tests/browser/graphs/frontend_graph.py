"""Declared graphs in the real front end, which makes their UI format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .declared import Graph
from .layout import Box, place

_NOTE = "About this workflow"
_NOTE_SIZE = (380, 520)
_LOAD = """async ([prompt, wanted]) => {
  await app.loadApiJson(prompt, "workflow");
  const sizes = {};
  for (const node of app.graph.nodes) {
    const { shown: [width, height], title, models } = wanted[node.id];
    for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
    if (title) node.title = title;
    if (models.length) node.properties.models = models;
    const [least, high] = node.computeSize();
    sizes[node.id] = [Math.max(width, least), Math.max(height, high)];
  }
  return sizes;
}"""
_PLACE = """([boxes, groups, title, note]) => {
  const graph = app.graph;
  for (const node of graph.nodes) {
    const [x, y, width, height] = boxes[node.id];
    node.pos = [x, y];
    node.size = [width, height];
  }
  const remark = LiteGraph.createNode("MarkdownNote");
  remark.title = title;
  remark.pos = boxes.note.slice(0, 2);
  remark.size = boxes.note.slice(2);
  remark.widgets[0].value = note;
  graph.add(remark);
  for (const [name, [x, y, width, height]] of groups) {
    const group = new LiteGraph.LGraphGroup(name);
    group.pos = [x, y];
    group.size = [width, height];
    graph.add(group);
  }
  const saved = graph.serialize();
  saved.extra = {};
  return JSON.stringify(saved);
}"""


def export(page, graph: Graph, prompt: Mapping[str, Any]) -> dict[str, Any]:
    """The UI format of a declared graph, whose API format is `prompt`."""
    ids = graph.ids()
    wanted = {
        ids[found]: {"shown": found.shown, "title": found.title, "models": found.models} for found in graph.nodes()
    }
    sizes = {**page.evaluate(_LOAD, [prompt, wanted]), "note": _NOTE_SIZE}
    columns = {_NOTE: ["note"]} | {title: [ids[found] for found in nodes] for title, nodes in graph.columns.items()}
    boxes, groups = place(columns, sizes)
    del groups[_NOTE]
    placed = [{name: _corners(box) for name, box in boxes.items()}, [[name, _corners(b)] for name, b in groups.items()]]
    return json.loads(page.evaluate(_PLACE, [*placed, _NOTE, graph.note]))


def _corners(box: Box) -> list[int]:
    return [round(value) for value in (box.x, box.y, box.width, box.height)]
