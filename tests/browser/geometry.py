"""What the real front end makes of a graph: rectangles of its nodes, curves of its links, texts that are cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from likeness.tests.browser.graphs import frontend_graph, view
from likeness.tests.browser.graphs.layout import Box
from likeness.tests.browser.graphs.sizes import PREVIEW, SAMPLERS

INSET = 12
"""Pixels of a node's edge on which links may lie: their own sockets are there."""
_RECORD = """() => {
  for (const call of ["moveTo", "lineTo", "bezierCurveTo"]) {
    const before = Path2D.prototype[call];
    Path2D.prototype[call] = function (...args) {
      (this.drawn ??= []).push(args);
      return before.apply(this, args);
    };
  }
}"""
_DRAW = """async () => {
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
  app.canvas.draw(true, true);
}"""
_OPENED = """() => {
  const { scale, offset } = app.canvas.ds, { clientWidth, clientHeight } = app.canvas.canvas;
  return { size: [clientWidth, clientHeight], ds: { scale, offset: Array.from(offset) } };
}"""
_WHOLE = """() => {
  for (const node of app.graph.nodes) node.updateArea();  // only drawing does so by itself
  const boxes = app.graph.nodes.map(node => node.boundingRect);
  const [left, top] = [0, 1].map(side => Math.min(...boxes.map(box => box[side])));
  const [right, bottom] = [0, 1].map(side => Math.max(...boxes.map(box => box[side] + box[2 + side])));
  app.canvas.ds.fitToBounds([left, top, right - left, bottom - top]);
}"""
_LOOK = """() => {
  const { graph, canvas } = app;
  const ends = ids => [...ids].map(id => graph.getLink(id)).flatMap(link => [link.origin_id, link.target_id]);
  const drawn = path => path.drawn.slice(0, 2);
  const ink = canvas.ctx;
  const isLow = element => element.scrollHeight > element.clientHeight + 4 && element.clientHeight > 0;
  const nodes = graph.nodes.map(node => {
    const shown = document.querySelector(`[data-node-id="${node.id}"]`);
    ink.font = node.titleFontStyle;
    const buttons = 20 * (node.title_buttons?.length ?? 0);
    const title = shown?.querySelector("[data-testid='node-title']");
    const cut = shown ? title.scrollWidth > title.clientWidth + 1
      : 30 + ink.measureText(node.title).width + buttons > node.size[0];
    const texts = shown ? [...shown.querySelectorAll("textarea, .comfy-markdown, .comfy-markdown-content")]
      : (node.widgets ?? []).filter(widget => widget.element && !widget.hidden).map(widget => widget.element);
    return {
      id: node.id, type: node.type, title: node.title, box: Array.from(node.boundingRect),
      cut, hidden: texts.filter(isLow).map(one => (one.value ?? one.innerText).slice(0, 30)),
    };
  });
  const links = [...graph.links.values()].map(link => ({ ends: ends([link.id]), drawn: drawn(link.path) }));
  const bends = [...graph.reroutes.values()].map(bend => ({ ends: ends(bend.linkIds), drawn: drawn(bend.path) }));
  return JSON.stringify({ zoom: canvas.ds.scale, nodes, links: [...links, ...bends] });
}"""


@dataclass
class Seen:
    """A graph on the screen. nodes: their title, box, whether the title is cut, texts that are not seen whole."""

    zoom: float
    nodes: dict[str, dict[str, Any]]
    links: list[dict[str, Any]]

    def boxes(self) -> dict[str, Box]:
        """Rectangles of the nodes by id, with their titles."""
        return {name: Box(*node["box"]) for name, node in self.nodes.items()}

    def overlaps(self) -> list[tuple[str, str]]:
        """Titles of nodes that lie on each other, or on the preview of a sampler."""
        boxes = list(self.boxes().items())
        for index, (name, box) in enumerate(boxes):
            if self.nodes[name]["type"] in SAMPLERS:
                boxes[index] = name, replace(box, height=box.height + PREVIEW)
        return [
            (self.nodes[one]["title"], self.nodes[other]["title"])
            for index, (one, box) in enumerate(boxes)
            for other, second in boxes[index + 1 :]
            if box.overlaps(second)
        ]

    def cut(self) -> list[str]:
        """Titles, and beginnings of texts, that are not seen whole."""
        titles = [node["title"] for node in self.nodes.values() if node["cut"]]
        return titles + [text for node in self.nodes.values() for text in node["hidden"]]

    def hidden_links(self) -> list[str]:
        """Links that run behind a node at neither of their ends."""
        found = []
        for link in self.links:
            curve = points(*link["drawn"])
            for name, box in self.boxes().items():
                if name not in map(str, link["ends"]) and any(_inside(box, x, y) for x, y in curve):
                    found.append(f"{link['ends']} behind {self.nodes[name]['title']}")
        return found


def record(page) -> None:
    """Makes the page keep the curves that it draws."""
    page.evaluate(_RECORD)


def show_all(page) -> None:
    """Moves the shown graph so that all of it is seen: a link out of sight is not drawn."""
    page.evaluate(_WHOLE)


def show(page, graph: dict[str, Any]) -> Seen:
    """Opens a graph as the template browser does, and looks at it."""
    frontend_graph.open_graph(page, graph)
    return look(page)


def opened(page) -> tuple[float, Box]:
    """The scale of the shown graph, and the part of it that no bar covers, before anything has moved it."""
    found = page.evaluate(_OPENED)
    assert found["size"] == list(view.WINDOW)
    return found["ds"]["scale"], view.visible(found["ds"])


def look(page) -> Seen:
    """Draws the shown graph, and looks at it."""
    page.evaluate(_DRAW)
    seen = json.loads(page.evaluate(_LOOK))
    return Seen(seen["zoom"], {str(node["id"]): node for node in seen["nodes"]}, seen["links"])


def points(start: list[float], curve: list[float], count: int = 60) -> list[tuple[float, float]]:
    """Points of a cubic curve, from its start and the arguments that draw it."""
    (x0, y0), (x1, y1, x2, y2, x3, y3) = start, curve
    found = []
    for index in range(count + 1):
        t = index / count
        a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
        found.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return found


def _inside(box: Box, x: float, y: float) -> bool:
    return box.x + INSET < x < box.right - INSET and box.y < y < box.bottom
