"""The UI format of a graph: places, frames and bends written into what the front end has made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import app_mode, derived, view
from .layout import Bend, Box, Group, Size, Wire, place, text_height

if TYPE_CHECKING:
    from .frontend_graph import Plan

NOTE = "About this workflow"
NOTE_WIDTH = 400
COLORS = {
    "Models": "#3f789e",
    "Photo": "#88aa88",
    "Photos": "#88aa88",
    "Place": "#88aa88",
    "Subject": "#88aa88",
    "Prompt": "#b58b2a",
    "Layout": "#88aaaa",
    "Result": "#aa8888",
}
OTHER = "#a1309b"
"""Color of the groups that draw."""
LETTER = 9
"""Pixels of a letter in a title."""
BESIDE = 220
"""Pixels between the nodes of a subgraph and its inputs or outputs."""


def laid_out(graph: dict[str, Any], plan: Plan, room: Mapping[str, Size]) -> dict[str, Any]:
    """The graph with a layout. room: sizes of the nodes by id, those of a subgraph included."""
    links = [tuple(link) for link in graph["links"]]
    shown = {name: node for name, node in plan.prompt.items() if name not in plan.inside}
    heights = {name: size.room for name, size in room.items()}
    groups = list(plan.groups or derived.groups(shown, heights))
    (note,) = (str(node["id"]) for node in graph["nodes"] if node["type"] == "MarkdownNote")
    last = max(group.first + len(group.columns) for group in groups) - 1
    height = text_height(plan.note, NOTE_WIDTH)
    room = {**room, note: Size(NOTE_WIDTH, height, height)}
    for name, node in shown.items():
        room[name] = replace(room[name], width=max(room[name].width, 60 + LETTER * len(node["_meta"]["title"] or "")))
    _lay_out(graph, [Group("", last, [[note]]), *groups], room, links)
    if plan.groups is None:
        if not view.fits(graph):
            _lay_out(graph, [Group("", 0, [[note]]), *groups], room, links)
        graph["extra"]["ds"] = view.of(graph)
    for inner in graph.get("definitions", {}).get("subgraphs", []):
        _lay_out_subgraph(inner, list(plan.inside), room)
    graph["extra"] |= app_mode.extra(plan.name, plan.prompt)
    return graph


def _lay_out_subgraph(graph: dict[str, Any], ids: list[str], room: Mapping[str, Size]) -> None:
    """Stacks all nodes but the last, which takes what they give."""
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [
        tuple(link[key] for key in keys) for link in graph["links"] if min(link["origin_id"], link["target_id"]) > 0
    ]
    _lay_out(graph, [Group("Draw", 0, [ids[:-1]]), Group("Result", 1, [ids[-1:]])], room, links)
    ends = max(node["pos"][0] + node["size"][0] for node in graph["nodes"])
    graph["inputNode"]["bounding"][:2] = [-BESIDE, 0]
    graph["outputNode"]["bounding"][:2] = [ends + BESIDE / 2, 0]


def _lay_out(graph: dict[str, Any], groups: Sequence[Group], room: Mapping[str, Size], links: Sequence[tuple]) -> None:
    inputs = {str(node["id"]): [one["name"] for one in node.get("inputs", [])] for node in graph["nodes"]}
    wires = {
        Wire(str(source), output, str(target), inputs[str(target)][slot]): number
        for number, source, output, target, slot, *_ in links
    }
    places = place(groups, room, wires)
    for node in graph["nodes"]:
        box = places.nodes[str(node["id"])]
        node["pos"], node["size"] = _whole(box)[:2], _whole(box)[2:]
    graph["groups"] = [
        {
            "id": number,
            "title": title,
            "bounding": _whole(box),
            "color": COLORS.get(title, OTHER),
            "font_size": 24,
            "flags": {},
        }
        for number, (title, box) in enumerate(places.frames, 1)
    ]
    graph["extra"] = _bent(places.bends, wires)


def _whole(box: Box) -> list[int]:
    return [round(value) for value in (box.x, box.y, box.width, box.height)]


def _bent(bends: Sequence[Bend], links: Mapping[Wire, int]) -> dict[str, Any]:
    """Bends as the front end stores them: each with its links, and the last bend of each link."""
    numbers = {id(bend): number for number, bend in enumerate(bends, 1)}
    reroutes, ends = [], {}
    for bend in bends:
        ids = [links[wire] for wire in bend.wires]
        parent = {"parentId": numbers[id(bend.parent)]} if bend.parent else {}
        point = {"pos": [round(bend.x), round(bend.y)], "linkIds": ids}
        reroutes.append({"id": numbers[id(bend)], **parent, **point})
        ends |= dict.fromkeys(ids, numbers[id(bend)])
    extensions = [{"id": link, "parentId": bend} for link, bend in sorted(ends.items())]
    return {"linkExtensions": extensions, "reroutes": reroutes} if bends else {}
