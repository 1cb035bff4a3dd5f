"""Checks the help pages: their pictures are those of the declared list, and everything fits the narrow panel."""

import json
import re
from pathlib import Path

import pytest
from comfy_api.latest import io
from likeness.docs import draw_help
from likeness.docs.help_pictures import PICTURES
from likeness.docs.help_without import NO_DIAL
from likeness.nodes import node_classes
from likeness.tests import workflows
from likeness.tests.titles import TITLES
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGES = {name: (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in TITLES}
ASSETS = ROOT / "web" / "docs" / "assets"
DECLARED = {picture.file: picture for pictures in PICTURES.values() for picture in pictures}
LONGEST_CODE, MOST_COLUMNS, MOST_BYTES, MOST_BYTES_OF_ALL = 21, 3, 24_000, 3_000_000
"""A help panel of 218 pixels, its width in a window of 1280, shows 21 letters of code in a table."""
INPUTS = {(n.GET_SCHEMA().node_id, i.id): i for n in node_classes() for i in n.GET_SCHEMA().inputs}
SITE = "https://github.com/comfyui-likeness/ComfyUI-Likeness/blob/main/"


def test_every_node_has_a_picture_and_a_dial_or_a_reason():
    assert PICTURES.keys() == TITLES.keys() and all(PICTURES.values())
    without = {name for name, pictures in PICTURES.items() if not any(picture.dial for picture in pictures)}
    assert without == NO_DIAL.keys()
    assert all(3 <= len(picture.panels) <= 5 for picture in DECLARED.values() if picture.dial)


@pytest.mark.parametrize("name", TITLES)
def test_a_page_shows_its_pictures_first(name):
    first = PAGES[name].partition("\n## ")[0]
    shown = re.findall(r"^!\[[^]]+\]\(assets/([\w.]+)\)\n\n(.+)$", first, re.MULTILINE)
    assert shown == [(picture.file, picture.caption) for picture in PICTURES[name]]
    assert PAGES[name].count("](assets/") == len(shown)


@pytest.mark.parametrize("name", TITLES)
def test_a_page_begins_with_its_use(name):
    first = PAGES[name].partition("\n## ")[0]
    sentence = first.splitlines()[2]
    assert sentence.endswith(".") and ". " not in sentence
    assert "\n\n**Use it when** " in first and "\n\n**Not when** " in first
    assert len(re.findall(r"^\* ", first, re.MULTILINE)) <= 3


@pytest.mark.parametrize("name", TITLES)
def test_a_page_fits_the_panel(name):
    page = PAGES[name]
    assert not re.search(r"^(```| {4,}\S)", page, re.MULTILINE), "blocks of code do not wrap"
    for line in page.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) <= MOST_COLUMNS + 1, line
        words = [word for code in re.findall(r"`([^`]+)`", line) for word in re.split(r"[ /-]", code)]
        assert max(map(len, words), default=0) <= LONGEST_CODE, line


def test_links_of_the_pages_lead_to_files():
    for name, page in PAGES.items():
        for link in re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", page):
            assert link.startswith(SITE) and (ROOT / link.removeprefix(SITE).partition("#")[0]).exists(), (name, link)


@pytest.mark.parametrize("file", DECLARED)
def test_a_declared_panel_is_in_its_workflow(file):
    found, shown = draw_help.graph(DECLARED[file])
    assert {node for node, _ in shown} <= found.keys()
    for panel in (*DECLARED[file].panels, *DECLARED[file].first):
        prompt = workflows.api(panel.workflow)
        for name in panel.changes:
            number, _, entry = name.partition(".")
            assert entry in prompt[number]["inputs"], f"{panel.workflow} has no {name}"
            given = INPUTS.get((prompt[number]["class_type"], entry))
            value = panel.changes[name]
            if isinstance(given, io.Float.Input | io.Int.Input):
                assert given.min <= value <= given.max, f"{name}: {value}"


def test_panels_of_a_dial_differ():
    for picture in DECLARED.values():
        if picture.dial:
            assert len({node for node, _ in draw_help.graph(picture)[1]}) == len(picture.panels), picture.file


def test_the_pictures_are_those_of_the_list_and_small():
    kept = {path.name: path.stat().st_size for path in ASSETS.iterdir()}
    assert kept.keys() == DECLARED.keys()
    assert max(kept.values()) <= MOST_BYTES and sum(kept.values()) <= MOST_BYTES_OF_ALL
    for path in ASSETS.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "WEBP" and picture.width == draw_help.WIDTH


def test_the_pictures_are_up_to_date():
    kept = json.loads(draw_help.KEPT.read_text(encoding="utf-8"))
    weights = {file: draw_help.demo_weights(draw_help.kinds_of(picture)) for file, picture in DECLARED.items()}
    old = [file for file, picture in DECLARED.items() if kept.get(file) != draw_help.digest(picture, weights[file])]
    assert not old, f"graphs or weights have changed; run python docs/draw_help.py, which draws {old}"


def test_a_change_of_graph_or_weights_draws_again():
    picture = DECLARED["LikenessSampler.webp"]
    other = DECLARED["LikenessSampler_dial.webp"]
    assert draw_help.digest(picture, "a") != draw_help.digest(picture, "b") != draw_help.digest(other, "b")
    joint = draw_help.kinds_of(DECLARED["JointImageSampler.webp"])
    kinds = draw_help.kinds_of(picture)
    assert draw_help.demo_weights(kinds) == draw_help.demo_weights(kinds | {"KSampler"})
    assert draw_help.demo_weights(kinds) != draw_help.demo_weights(kinds | joint)


def test_equal_nodes_of_panels_run_once():
    found, _ = draw_help.graph(DECLARED["LikenessSampler_dial.webp"])
    kinds = [node["class_type"] for node in found.values()]
    assert kinds.count("LikenessDemoModel") == 1 and kinds.count("LikenessSampler") == 3
