"""Workflows of the template browser as a user meets them: how they are listed, and how their graphs look."""

import json
import re
import time

import pytest
from likeness.tests import workflows
from likeness.tests.browser import frontend, geometry
from likeness.tests.browser.graphs import frontend_graph, sizes
from likeness.tests.browser.graphs.layout import Box

ZOOM = 0.6
"""Least scale at which a graph opens in a window of 1600 x 900."""
LOOKED_AT = [name for name in workflows.TEMPLATES if "(SDXL)" not in name and not name.startswith(("92", "93", "94"))]
"""The others have the layouts of these, with other files."""
_CARDS = "[data-testid^='template-workflow-']"
_LISTED = f"""() => [...document.querySelectorAll("{_CARDS}")].map(
  card => card.dataset.testid.replace("template-workflow-", ""))"""


@pytest.fixture(scope="module")
def wide(chromium, stocked_host):
    page = frontend.open_front_end(chromium, stocked_host.client.address, 1600, 900)
    page.evaluate("() => { app.canvas.pause_rendering = true; }")
    geometry.record(page)
    return page


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "modern"])
def modern(request, wide):
    frontend_graph.render(wide, request.param)
    yield request.param
    frontend_graph.render(wide, False)


def _in_graph(signature: str, width: float, height: float) -> tuple[float, float]:
    """Width and height that a graph gives to a node of this measured size at least."""
    least, _ = sizes.LEAST.get(signature.partition("(")[0], sizes.ANY)
    return max(width, least), height


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_graph_is_seen_whole(wide, modern, name):
    seen = geometry.show(wide, workflows.ui(name))
    assert seen.zoom > ZOOM - 0.001
    assert seen.overlaps() == [] and seen.hidden_links() == [] and seen.cut() == []
    known, own = sizes.measured(), frontend_graph.measured(wide)
    needed = {signature: known[signature] for signature, *_ in own.values()}
    if modern:
        heights = frontend_graph.modern_heights(wide)
        assert {own[node][0]: height for node, height in heights.items() if node in own} == {
            signature: height for signature, (*_, height) in needed.items()
        }
    else:
        # A node's own title may widen it, which has no effect up to the least width in a graph.
        assert {signature: _in_graph(signature, *size) for signature, *size in own.values()} == {
            signature: _in_graph(signature, *size) for signature, (*size, _) in needed.items()
        }


@pytest.mark.parametrize("name", [name for name in workflows.TEMPLATES if "(SDXL)" in name])
def test_graphs_of_both_checkpoints_have_one_layout(name):
    graph, other = workflows.ui(name), workflows.ui(name.replace("SDXL", "SD 1.5"))
    for one, its in zip(graph["nodes"], other["nodes"], strict=True):
        assert one["type"] == its["type"] == "MarkdownNote" or (one["pos"], one["size"]) == (its["pos"], its["size"])
    assert graph["extra"] == other["extra"]


@pytest.mark.parametrize("name", workflows.NAMES + workflows.TEMPLATES)
def test_every_node_is_in_one_colored_group(name):
    graph = workflows.ui(name)
    groups = [Box(*group["bounding"]) for group in graph["groups"]]
    assert not any(one.overlaps(other) for i, one in enumerate(groups) for other in groups[i + 1 :])
    assert all(re.fullmatch("#[0-9a-f]{6}", group["color"]) for group in graph["groups"])
    for node in graph["nodes"]:
        around = [group for group in groups if group.overlaps(Box(*node["pos"], *node["size"]))]
        assert len(around) == (node["type"] != "MarkdownNote"), node["title"]
    first, last = graph["groups"][0], max(graph["groups"], key=lambda group: group["bounding"][0])
    assert (first["title"], last["title"]) == ("Models", "Result")


@pytest.fixture(scope="module")
def browser_of_templates(wide):
    """The dialog, with the pack's category chosen."""
    wide.evaluate("() => { app.extensionManager.command.execute('Comfy.BrowseTemplates'); }")
    dialog = wide.get_by_role("dialog")
    dialog.get_by_role("button", name="Likeness", exact=True).click(timeout=60_000)
    return dialog


def listed(page, wanted) -> list[str]:
    """Names on the cards, once they are as wanted or a while has passed."""
    for _ in range(100):
        if wanted(found := page.evaluate(_LISTED)):
            break
        page.wait_for_timeout(100)
    return found


def reached(page, cards, index: int) -> None:
    """Scrolls until there is a card of this number: the last ones are added when the list's end is seen."""
    deadline = time.monotonic() + 60
    while cards.count() <= index:
        assert time.monotonic() < deadline, f"there are {cards.count()} cards"
        cards.last.hover()
        page.mouse.wheel(0, 2000)
        page.wait_for_timeout(100)


def test_every_template_has_a_card_with_its_picture(wide, browser_of_templates):
    cards = browser_of_templates.locator(_CARDS)
    listed(wide, lambda names: names and all(name in workflows.TEMPLATES for name in names))
    for index, name in enumerate(workflows.TEMPLATES):
        reached(wide, cards, index)
        card = cards.nth(index)
        card.scroll_into_view_if_needed(timeout=60_000)
        assert card.locator("h3").inner_text() == name
        card.locator("img").wait_for(timeout=60_000)
        assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
        assert re.fullmatch(r"0 Demo, no download - [a-z].*|[1-9] [A-Z].* \((SD 1\.5|SDXL)\)|9[1-6] .+ - [a-z].*", name)
    assert cards.count() == len(workflows.TEMPLATES)


@pytest.mark.parametrize(
    ("words", "number"),
    [("consistent character", "4"), ("same subject", "3"), ("dreambooth", "1"), ("ipadapter", "2"), ("demo", "0")],
)
def test_a_search_finds_a_template(wide, browser_of_templates, words, number):
    browser_of_templates.get_by_role("textbox").first.fill(words)
    found = listed(wide, lambda names: len(names) < 10)
    assert sum(name.startswith(number) for name in found) > 1
    browser_of_templates.get_by_role("textbox").first.fill("")
    listed(wide, lambda names: len(names) >= 10)


def test_an_installed_folder_is_named_by_the_pack():
    """The category is the folder's name, which the pack's locale translates: that of a clone, and of the registry."""
    root = workflows.FOLDER.parent
    named = json.loads((root / "locales" / "en" / "main.json").read_text(encoding="utf-8"))
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    folders = {re.findall(r'^name = "(.*)"', text, re.M)[0], re.findall(r'Repository = ".*/(.*)"', text)[0]}
    assert named["templateWorkflows"]["category"].items() >= dict.fromkeys(folders, "Likeness").items()
