"""Help pages in the panel of the real front end: pictures load, and nothing is wider than the panel."""

import pytest
from likeness.docs.help_pictures import PICTURES
from likeness.tests.browser import frontend
from likeness.tests.titles import TITLES

PAGES = ("LikenessSampler", "AdaptiveMask", "JointImageSampler", "LikenessMetrics", "StepBlendedSampler")
"""Pages with tables of three columns, long names, lists of formulas and links."""
OPEN = """id => {
  const node = LiteGraph.createNode(id);
  app.graph.clear();
  app.graph.add(node);
  app.canvas.selectNode(node);
  const pinia = document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia;
  pinia._s.get("rightSidePanel").openPanel("info");
}"""
LOADED = """title => {
  const page = document.querySelector(".node-help-content .markdown-content");
  const pictures = [...(page?.querySelectorAll("img") ?? [])];
  return page?.querySelector("h1")?.textContent.startsWith(title) && pictures.every(p => p.complete);
}"""
MEASURED = """() => {
  const page = document.querySelector(".node-help-content .markdown-content");
  const wide = [...page.querySelectorAll("p, li, ul, h1, h2, table, td, pre")].filter(
    one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline");
  return {
    wide: wide.map(one => one.textContent.slice(0, 60)),
    pictures: [...page.querySelectorAll("img")].map(p => [p.src.split("/").pop(), p.naturalWidth]),
    rows: page.querySelectorAll("tr").length,
  };
}"""


@pytest.fixture(scope="module")
def panel(chromium, stocked_host):
    page = frontend.open_front_end(chromium, stocked_host.client.address, 1280, 800)
    page.evaluate("() => { app.canvas.pause_rendering = true; }")
    return page


@pytest.mark.parametrize("name", PAGES)
def test_a_help_page_fits_the_panel(panel, name):
    panel.evaluate(OPEN, name)
    panel.wait_for_function(LOADED, arg=TITLES[name], timeout=60_000)
    found = panel.evaluate(MEASURED)
    assert found["wide"] == [] and found["rows"] > 3
    assert found["pictures"] == [[picture.file, 384] for picture in PICTURES[name]]
