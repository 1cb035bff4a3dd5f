"""The app mode of the first workflows: it opens, and shows prompt, photos and likeness without the graph."""

import pytest
from likeness.tests import workflows
from likeness.tests.browser import frontend
from likeness.tests.browser.graphs.app_mode import extra

NUMBERED = [name for name in workflows.TEMPLATES if name[0] in "01234"]
SHOWN = {
    "0 Demo, no download - use one photo": ["Text (prompt)", "Subject", "Likeness"],
    "0 Demo, no download - draw a LoRA in new layouts": ["Text (prompt)", "Token", "Subject", "Likeness"],
    "4 Draw a consistent character in four scenes (SD 1.5)": [
        "Prefix of each line",
        "Text (prompt)",
        "image",
        "Strength",
    ],
}
_TOGGLE = """() => app.extensionManager.command.execute("Comfy.ToggleLinear")"""
_WIDGETS = "[data-testid=linear-widgets]"


@pytest.mark.parametrize("name", NUMBERED)
def test_widgets_and_results_are_declared(name):
    graph = workflows.ui(name)
    kinds = {node["id"]: node["type"] for node in graph["nodes"]}
    declared = graph["extra"]["linearData"]
    assert declared == extra(name, workflows.api(name))["linearData"]
    shown = {(kinds[node], widget) for node, widget in declared["inputs"]}
    assert shown & {("LikenessSubjectPrompt", "text"), ("LikenessPromptList", "text")}
    assert shown & {("LikenessSampler", "likeness"), ("JointImageSampler", "strength")}
    assert ("LikenessDemoSubject", "subject") in shown if name[0] == "0" else ("LoadImage", "image") in shown
    learned = {entry["inputs"].get("token", "") for entry in workflows.api(name).values()} - {""}
    assert (("LikenessSubjectPrompt", "token") in shown) == bool(learned)
    assert [kinds[node] for node in declared["outputs"]] == ["SaveImage"]


def test_others_have_none():
    assert extra("5 Put the subject where you draw (SD 1.5)", {}) == {}


@pytest.mark.parametrize("name", SHOWN)
def test_app_mode_shows_them(page, name):
    frontend.to_prompt(page, workflows.ui(name))
    page.evaluate(_TOGGLE)
    try:
        widgets = page.locator(_WIDGETS)
        widgets.wait_for(timeout=120_000)
        text = widgets.inner_text().casefold()
    finally:
        page.evaluate(_TOGGLE)
    places = [text.find(label.casefold()) for label in SHOWN[name]]
    assert -1 not in places and places == sorted(places), text
