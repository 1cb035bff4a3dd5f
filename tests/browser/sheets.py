"""Sheets of a few nodes, drawn by the real front end to be looked at, and what is not right on them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path

from likeness.tests.browser import geometry
from likeness.tests.browser.graphs import frontend_graph
from likeness.tests.browser.graphs.layout import Box

COLUMNS, MOST = 3, 6
"""Columns of a sheet, and nodes on it."""
LEFT, TOP, GAP = 80, 110, 30
"""Pixels at the window's edges that bars cover, and between two nodes."""
_PREPARE = """async () => {
  const draw = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    window.written?.push(String(text));
    return draw.call(this, text, ...rest);
  };
  for (const shown of ["Comfy.Minimap.Visible", "Comfy.Graph.CanvasInfo"])
    await app.extensionManager.setting.set(shown, false);
  document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s.get("dialog").closeDialog();
  app.canvas.pause_rendering = false;
}"""
# A node of a known id would get the values that the id had before.
_DROP = """async ([kinds, places]) => {
  const last = Math.max(window.lastDropped ?? 0, app.graph.last_node_id);
  app.graph.clear();
  app.graph.last_node_id = last;
  window.lastDropped = last + kinds.length;
  Object.assign(app.canvas.ds, { scale: 1, offset: [0, 0] });
  kinds.forEach((kind, index) => {
    const node = LiteGraph.createNode(kind);
    node.pos = places[index];
    app.graph.add(node);
  });
  for (let i = 0; i < 12; i++) await new Promise(requestAnimationFrame);
  return app.graph.nodes.map(node => {
    const shown = document.querySelector(`[data-node-id="${node.id}"]`);
    return shown ? [shown.offsetWidth, shown.offsetHeight] : [node.size[0], node.size[1] + 30];
  });
}"""
_UNFOLD = """async () => {
  for (const node of app.graph.nodes) if (node.widgets?.some(widget => widget.options?.advanced)) node.toggleAdvanced();
  for (let i = 0; i < 12; i++) await new Promise(requestAnimationFrame);
}"""
_LOOK = """() => JSON.stringify(app.graph.nodes.map(node => {
  const label = slot => slot.label || slot.localized_name || slot.name;
  const shown = document.querySelector(`[data-node-id="${node.id}"]`);
  const scale = app.canvas.ds.scale, widgets = node.widgets ?? [];
  const idle = widget => (shown ? widget.options?.hidden : widget.hidden);
  const folded = widgets.filter(widget => widget.options?.advanced && !node.showAdvanced && !widget.options.hidden);
  const drawn = widgets.filter(widget => !idle(widget) && !folded.includes(widget));
  const sockets = [...(node.inputs ?? []).filter(input => !input.widget), ...(node.outputs ?? [])];
  window.written = [];
  if (!shown) app.canvas.drawNode(node, app.canvas.ctx);
  const { written } = window;
  window.written = null;
  app.canvas.setDirty(true, true);
  const within = shown?.getBoundingClientRect();
  const rows = shown ? [...shown.querySelectorAll("[data-testid='node-widget']")].map(row => {
    const box = row.getBoundingClientRect();
    return [row.innerText, box.top - within.top, box.bottom - within.top].map(x => x.trim?.() ?? x / scale);
  }) : drawn.map(widget => [label(widget), widget.y, widget.y + (widget.computedHeight ?? 20)]);
  const cut = [...(shown?.querySelectorAll("*") ?? [])].filter(
    one => getComputedStyle(one).textOverflow === "ellipsis" && one.scrollWidth > one.clientWidth + 1);
  const placeholders = drawn.map(widget => widget.element?.placeholder).filter(Boolean);
  const values = drawn.map(widget => String(widget.value)).filter(text => /\\.\\.\\.|\\u2026/.test(text));
  const whole = text => values.every(value => !value.includes(text));
  return {
    title: node.title, rows, height: shown ? within.height / scale : node.size[1],
    texts: shown ? [...shown.innerText.split("\\n")] : [...written, ...placeholders],
    cut: [...cut.map(one => one.innerText), ...written.filter(text => /\\.\\.\\.$|\\u2026/.test(text) && whole(text))],
    labels: [...sockets, ...drawn].filter(slot => !["control_after_generate", "fixed"].includes(slot.name)).map(label),
    folded: folded.map(label), unfolds: widgets.some(widget => widget.options?.advanced),
  };
}))"""


def prepare(page) -> None:
    """Closes what covers the graph, and makes the page keep the texts that it draws."""
    page.evaluate(_PREPARE)


def sheets(kinds: Sequence[str]) -> Iterator[list[str]]:
    """The kinds of nodes on each sheet."""
    for first in range(0, len(kinds), MOST):
        yield list(kinds[first : first + MOST])


def drop(page, kinds: Sequence[str], modern: bool) -> tuple[int, int]:
    """Puts fresh nodes on an empty canvas, one under another in columns. Returns width and height of the sheet."""
    frontend_graph.render(page, modern)
    far = [[LEFT + 700 * index, TOP] for index in range(len(kinds))]
    sizes = page.evaluate(_DROP, [list(kinds), far])
    bottoms, places = [TOP] * COLUMNS, []
    width = GAP + max(width for width, _ in sizes)
    for _, height in sizes:
        column = bottoms.index(min(bottoms))
        places.append([LEFT + column * width, bottoms[column] + 30])
        bottoms[column] += height + GAP
    page.set_viewport_size({"width": round(LEFT + COLUMNS * width), "height": round(max(bottoms))})
    page.evaluate(_DROP, [list(kinds), places])
    elements = page.evaluate("document.querySelectorAll('[data-node-id]').length")
    assert elements == modern * len(kinds), "another renderer than the one asked for has drawn the nodes"
    return round(LEFT + COLUMNS * width), round(max(bottoms))


def unfold(page) -> None:
    """Shows the advanced widgets of every node."""
    page.evaluate(_UNFOLD)


def picture(page, file: Path) -> None:
    """Keeps the picture of the window."""
    page.wait_for_timeout(200)
    page.screenshot(path=file, timeout=120_000)


def overlaps(page) -> list[str]:
    """Nodes that lie over others."""
    return [
        f"{one['title']} lies over {other['title']}"
        for one, other in combinations(geometry.look(page).nodes.values(), 2)
        if Box(*one["box"]).overlaps(Box(*other["box"]))
    ]


def faults(page) -> list[str]:
    """Cut titles and texts, labels that are missing, folded ones that are shown, and rows over rows or below a node."""
    found = [f"cut: {text}" for text in geometry.look(page).cut()]
    for node in json.loads(page.evaluate(_LOOK)):
        title, texts = node["title"], node["texts"]
        found += [f"{title}: cut: {text}" for text in node["cut"]]
        shown = {label for label in [*node["labels"], *node["folded"]] if any(one.startswith(label) for one in texts)}
        found += [f"{title}: not seen: {label}" for label in node["labels"] if label not in shown]
        found += [f"{title}: not folded: {label}" for label in node["folded"] if label in shown]
        rows = sorted(node["rows"], key=lambda row: row[1])
        found += [f"{title}: {one[0]} lies over {other[0]}" for one, other in pairwise(rows) if one[2] > other[1] + 1]
        found += [f"{title}: {row[0]} is below the node" for row in rows if row[2] > node["height"] + 1]
    return found
