"""A click on the sheet of Where a Point Looks sets the point, which the next run shows."""

import json

import pytest
from likeness.tests import workflows
from likeness.tests.browser import frontend

_NODE = "app.graph.nodes.find(node => node.type === 'LikenessCorrespondence')"
_RAN = f"() => {_NODE}.likenessSheet?.image.naturalWidth"


@pytest.fixture(scope="module")
def sheet(page):
    """The page after a run of two pictures with two references."""
    frontend.to_prompt(page, workflows.ui("correspondence"))
    frontend.shorten(page)
    page.evaluate("() => { app.canvas.pause_rendering = false; app.queuePrompt(0, 1); }")
    page.wait_for_function(_RAN, timeout=300_000)
    page.evaluate(
        f"() => {{ app.canvas.ds.scale = 1; app.canvas.centerOnNode({_NODE}); app.canvas.setDirty(true, true); }}"
    )
    page.wait_for_function(f"() => {_NODE}.likenessSheet.image.getBoundingClientRect().width > 200")
    yield page
    page.evaluate("() => { app.canvas.pause_rendering = true; }")


def clicked(page, x: float, y: float) -> dict:
    """The point after a click at fractions of the sheet's width and height."""
    page.evaluate(
        f"""([x, y]) => {{
          const image = {_NODE}.likenessSheet.image, box = image.getBoundingClientRect();
          const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
          image.dispatchEvent(new MouseEvent("click", {{ bubbles: true,
            clientX: box.left + x * image.naturalWidth * scale, clientY: box.top + y * image.naturalHeight * scale }}));
        }}""",
        [x, y],
    )
    names = ["picture", "x", "y"]
    found = page.evaluate(f"names => names.map(name => {_NODE}.widgets.find(w => w.name === name).value)", names)
    return dict(zip(names, found, strict=True))


def test_a_click_is_a_point(sheet):
    # Four columns of 128 pixels; a row of pictures and three of sizes, each 16 + 128 pixels high. A click is at a whole
    # pixel of the screen, which is some percent of a small picture.
    point = clicked(sheet, (128 + 32) / 512, (144 + 16 + 96) / 576)
    assert point["picture"] == 2 and abs(point["x"] - 25) < 3 and abs(point["y"] - 75) < 3
    reference = clicked(sheet, (3 * 128 + 64) / 512, (16 + 64) / 576)
    assert reference["picture"] == 4 and abs(reference["x"] - 50) < 3
    assert clicked(sheet, 0.1, 8 / 576) == reference, "a caption is no picture"


def test_the_sheet_takes_the_place_of_the_preview(sheet):
    assert sheet.evaluate(f"() => {_NODE}.hideOutputImages")
    saved = json.loads(sheet.evaluate(f"() => JSON.stringify({_NODE}.serialize().widgets_values)"))
    kept = next(n for n in workflows.ui("correspondence")["nodes"] if n["type"] == "LikenessCorrespondence")
    assert len(saved) == len(kept["widgets_values"])
