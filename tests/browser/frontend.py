"""Drives ComfyUI's real front end in the system's Chromium."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys

from likeness.tests import workflows

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
_PLACES = (  # of browsers that are installed without being on the path
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
CHROMIUM = os.environ.get("CHROMIUM_PATH") or next(
    filter(None, [*map(shutil.which, _PROGRAMS), *filter(os.path.isfile, _PLACES)]), None
)
INSTALL = {
    "darwin": "brew install --cask google-chrome",
    "win32": "winget install Google.Chrome",
}.get(sys.platform, "sudo apt-get install chromium")
"""One command after which the browser tests find a browser."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# While the spinner is shown, the front end may still replace our workflow by its own first one.
_READY = """() => {
  const manager = window.app?.extensionManager;
  const types = () => Object.keys(LiteGraph.registered_node_types).length;
  return manager?.workflow?.activeWorkflow && !manager.spinner && types() > 100;
}"""
_TO_PROMPT = """async graph => {
  await app.loadGraphData(graph, true, true, "workflow");
  return JSON.stringify((await app.graphToPrompt()).output);
}"""
_SHORTEN = """short => {
  for (const node of app.graph.nodes)
    for (const widget of node.widgets ?? []) {
      if (widget.name in short) widget.value = short[widget.name];
      if (widget.name === "inversion_steps") widget.value = short.steps;
      if (node.type === "AppearancePalette" && widget.name === "source") widget.value = "noised";
      if (node.type === "LikenessPromptList") widget.value = widget.value.split("\\n").slice(0, 2).join("\\n");
    }
}"""


def stock(client) -> None:
    """Stores short versions of the files that some workflows load. Call it before `browser`, since the client starts an
    event loop."""
    for name in ("store_reference", "store_layout", "save_palette", "save_template"):
        client.run(workflows.shortened(workflows.api(name)))


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


def open_front_end(chromium, address: str, width: int = 800, height: int = 600, locale: str = "en-US"):
    """A page with the front end loaded in a language, without access to anything but the server."""
    # Drawn by the processor that also runs the server, hence few pixels and no animation.
    page = chromium.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce", locale=locale)
    home = f"http://{address}/"
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(home) else route.abort())
    page.goto(home, timeout=180_000)
    page.wait_for_function(_READY, timeout=180_000)
    return page


def shorten(page) -> None:
    """Gives the loaded workflow a few steps and two pictures."""
    page.evaluate(_SHORTEN, workflows.SHORT)


def to_prompt(page, graph: dict) -> str:
    """Loads a UI-format workflow. Returns the JSON text of the API-format prompt that the front end would queue."""
    return page.evaluate(_TO_PROMPT, graph)
