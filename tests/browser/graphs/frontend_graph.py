"""Declared graphs in the real front end, which makes their UI format."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from ..frontend import SETTLED
from . import app_mode
from .declared import Graph
from .layout import Box, place, place_note

NOTE = "About this workflow"
_LOAD = (
    f"""async ([prompt, wanted]) => {{
  await app.loadApiJson(prompt, "workflow");{SETTLED}"""
    + """
  const sizes = {};
  for (const node of app.graph.nodes) {
    const { shown: [width, height], title, models } = wanted[node.id];
    if (title) node.title = title;
    if (models.length) node.properties.models = models;
    const [least, high] = node.computeSize();
    sizes[node.id] = [Math.max(width, least), Math.max(height, high)];
  }
  return sizes;
}"""
)
_PLACE = """([boxes, groups]) => {
  for (const node of app.graph.nodes) {
    const [x, y, width, height] = boxes[node.id];
    node.pos = [x, y];
    node.size = [width, height];
  }
  for (const [name, [x, y, width, height]] of groups) {
    const group = new LiteGraph.LGraphGroup(name);
    group.pos = [x, y];
    group.size = [width, height];
    app.graph.add(group);
  }
}"""
_SAVE = """([title, note, x, y, width, height]) => {
  const remark = LiteGraph.createNode("MarkdownNote");
  remark.title = title;
  remark.pos = [x, y];
  remark.size = [width, height];
  app.graph.add(remark);
  remark.widgets[0].value = note;  // adding a node restores the value that its id had before
  const saved = app.graph.serialize();
  saved.extra = {};
  return JSON.stringify(saved);
}"""


def export(page, graph: Graph, prompt: Mapping[str, Any]) -> dict[str, Any]:
    """The UI format of a declared graph, whose API format is `prompt`."""
    boxes, groups = measured(page, graph, prompt)
    place_all(page, boxes, groups)
    saved = json.loads(page.evaluate(_SAVE, [NOTE, graph.note, *_corners(place_note(graph.note, groups))]))
    # The front end keeps widgets by the graph's id, which is the same for every graph that it imports.
    own = str(uuid.uuid5(uuid.NAMESPACE_URL, f"likeness/{graph.name}"))
    return {**saved, "id": own, "extra": app_mode.extra(graph.name, prompt)}


def measured(page, graph: Graph, prompt: Mapping[str, Any]) -> tuple[dict[str, Box], dict[str, Box]]:
    """Loads a graph. Returns the boxes of its nodes by id, and of its groups by title."""
    ids = graph.ids()
    wanted = {
        ids[found]: {"shown": found.shown, "title": found.title, "models": found.models} for found in graph.nodes()
    }
    sizes = page.evaluate(_LOAD, [prompt, wanted])
    columns = {title: [ids[found] for found in nodes] for title, nodes in graph.columns.items()}
    return place(columns, sizes)


def place_all(page, boxes: Mapping[str, Box], groups: Mapping[str, Box]) -> None:
    """Moves the loaded nodes into their boxes and adds the groups."""
    page.evaluate(
        _PLACE,
        [{name: _corners(box) for name, box in boxes.items()}, [[name, _corners(b)] for name, b in groups.items()]],
    )


def _corners(box: Box) -> list[int]:
    return [round(value) for value in (box.x, box.y, box.width, box.height)]
