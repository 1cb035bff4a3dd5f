"""Drives ComfyUI's real front end in the system's Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM_PATH") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge"))), None
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows" / "api"
IMAGE_NODES = ("SaveImage", "PreviewImage")
# While the spinner is shown, the front end may still replace our workflow by its own first one.
_READY = """() => {
  const manager = window.app?.extensionManager;
  const types = Object.keys(LiteGraph.registered_node_types).length;
  return manager?.workflow?.activeWorkflow && !manager.spinner && types > 100;
}"""
# One call that returns JSON text: copying values out of the page would turn undefined into null.
_EXPORT = """async ([prompt, note]) => {
  await app.loadApiJson(prompt, "workflow");
  const graph = app.graph;
  for (const node of graph.nodes) {
    for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
    if (["SaveImage", "PreviewImage"].includes(node.type)) node.size = [330, 400];
    if (node.type === "CLIPTextEncode") node.size = [330, 130];
    if (node.type === "PreviewAny") node.size = [330, 130];
    if (node.type === "LikenessLossCurves") node.size = [420, 320];
    if (["AppearancePalette", "LayoutTemplate"].includes(node.type)) node.size[1] += 200;  // room for their preview
  }
  graph.arrange(60);
  const left = Math.min(...graph.nodes.map(n => n.pos[0])), top = Math.min(...graph.nodes.map(n => n.pos[1]));
  const remark = LiteGraph.createNode("MarkdownNote");
  remark.title = "About this workflow";
  remark.pos = [left - 460, top];
  remark.size = [400, 320];
  remark.widgets[0].value = note;
  graph.add(remark);
  const saved = graph.serialize();
  saved.extra = {};
  return JSON.stringify(saved);
}"""
_TO_PROMPT = """async graph => {
  await app.loadGraphData(graph, true, true, "workflow");
  return JSON.stringify((await app.graphToPrompt()).output);
}"""


def stock(client) -> None:
    """Stores the files that some workflows load. Call it before `browser`, since the client starts an event loop."""
    for name in ("store_reference", "store_layout", "save_palette", "save_template"):
        client.run(json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))


@contextlib.contextmanager
def browser():
    """A Chromium that ends with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


def open_front_end(chromium, address: str):
    """A page with the front end loaded, without access to anything but the server."""
    # Drawn by the processor that also runs the server, hence few pixels and no animation.
    page = chromium.new_page(viewport={"width": 800, "height": 600}, reduced_motion="reduce")
    home = f"http://{address}/"
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(home) else route.abort())
    page.goto(home, timeout=180_000)
    page.wait_for_function(_READY, timeout=180_000)
    return page


def export(page, prompt: dict, note: str) -> str:
    """The UI-format JSON text of an API-format prompt, with a layout and a note."""
    return page.evaluate(_EXPORT, [prompt, note])


def to_prompt(page, graph: dict) -> str:
    """Loads a UI-format workflow. Returns the JSON text of the API-format prompt that the front end would queue."""
    return page.evaluate(_TO_PROMPT, graph)
