"""Graphs after a run, when their nodes show pictures, drawings and sentences: each stays in its group, apart."""

from itertools import combinations

import pytest
from likeness.tests import workflows
from likeness.tests.browser import frontend, geometry, lay_out
from likeness.tests.browser.graphs import after_run, frontend_graph, sizes
from likeness.tests.browser.graphs.layout import TITLE, Box

SEEN = ("attention_maps", "layout_and_retouch", "pick_and_draw", "correspondence")
"""Graphs that have most kinds of nodes on which a run shows something."""


def outside(graph: dict, boxes: dict[str, Box]) -> list[str]:
    """Titles of nodes that leave their group, or lie over another. boxes: of the nodes by id."""
    titles = {str(node["id"]): node.get("title") or node["type"] for node in graph["nodes"]}
    free = {str(node["id"]) for node in graph["nodes"] if node["type"] == "MarkdownNote"}
    groups = [Box(*group["bounding"]) for group in graph["groups"]]
    left = [titles[one] for one in boxes.keys() - free if not any(group.holds(boxes[one]) for group in groups)]
    over = [
        f"{titles[a]} over {titles[b]}" for (a, one), (b, two) in combinations(boxes.items(), 2) if one.overlaps(two)
    ]
    return left + over


@pytest.mark.parametrize("name", workflows.NAMES + workflows.TEMPLATES)
def test_a_graph_has_room_for_what_a_run_shows(name):
    graph, prompt, known = workflows.ui(name), workflows.api(name), sizes.measured()
    boxes = {}
    for node in graph["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        if entry := prompt.get(str(node["id"])):
            kind = entry["class_type"]
            height = max(height, sizes.after_run(kind, known[sizes.signature(kind, entry["inputs"])]))
        boxes[str(node["id"])] = Box(x, y - TITLE + 4, width, height + TITLE - 4)
    assert outside(graph, boxes) == []


@pytest.mark.parametrize("plan", lay_out.plans(), ids=lambda plan: plan.name)
def test_a_stored_layout_is_the_generators(plan):
    assert lay_out.text(lay_out.laid_out(plan)) == workflows.ui_file(plan.name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wide(page):
    page.set_viewport_size({"width": 1600, "height": 900})
    page.evaluate("() => { app.canvas.pause_rendering = false; }")
    geometry.record(page)
    yield page
    frontend_graph.render(page, False)


@pytest.mark.parametrize("modern", [False, True], ids=["classic", "modern"])
@pytest.mark.parametrize("name", SEEN)
def test_what_a_run_shows_stays_in_its_group(wide, name, modern):
    graph = workflows.ui(name)
    frontend_graph.render(wide, modern)
    frontend.to_prompt(wide, graph)
    geometry.show_all(wide)
    before = geometry.look(wide).boxes()
    after_run.show(wide)
    after = geometry.look(wide).boxes()
    assert any(after[node].height > before[node].height for node in after)
    assert outside(graph, after) == []
