"""Names that users read: display names, labels, categories, and the words that find a node."""

import re
from pathlib import Path

import pytest
from likeness.nodes import node_classes
from likeness.nodes._api import CATEGORY, io
from likeness.nodes._validate import title_of
from likeness.tests.titles import TITLES

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in node_classes()}
FOLDERS = {"Sample", "Subject", "Guide", "Maps and masks", "Files", "Demo"}
SYMBOLS = {"lambda": "λ", "lambdas": "λ", "start": "start", "clip": "clip"}
LONGEST = 30
"""Characters of a label, which shares its row with a value."""
SOUGHT = {
    "identity": "LikenessSampler",
    "face": "LikenessSubject",
    "ipadapter": "LikenessSampler",
    "same character": "LikenessSampler",
    "character sheet": "JointImageSampler",
    "consistency": "LikenessSampler",
    "dreambooth": "StepBlendedSampler",
    "style": "AppearancePalette",
    "lora": "MultiSourceAttnSwap",
    "mask from prompt": "LikenessAttentionMaps",
    "vital layers": "LikenessLayerProbe",
    "step-blended": "StepBlendedSampler",
    "uremd": "UREMDGuidance",
    "clip score": "LikenessScore",
    "best of n": "LikenessKeepBest",
    "remove background": "LikenessCutOut",
    "training set": "LikenessAssembleSet",
    "multi-source attention": "MultiSourceAttnSwap",
    "save trajectory": "LikenessSaveTrajectory",
}
"""{what a newcomer or a reader of a paper types: a node that it must find}."""


def words(name: str) -> list[str]:
    return [SYMBOLS.get(word, word) for word in name.split("_")]


def test_categories_are_folders_of_the_pack():
    used = {schema.category for schema in SCHEMAS.values()}
    assert used == {f"{CATEGORY}/{folder}" for folder in FOLDERS}


def test_titles_are_unique():
    assert len(set(TITLES.values())) == len(TITLES)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_label_has_the_words_of_its_id(name):
    """A sentence names inputs by their ids, which have to be found on the node."""
    labels = {i.id: i.display_name for i in SCHEMAS[name].inputs if not isinstance(i, io.Autogrow.Input)}
    assert len(set(labels.values())) == len(labels)
    for entry, label in labels.items():
        assert label and len(label) <= LONGEST, f"{name}.{entry}: {label!r}"
        missing = [word for word in words(entry) if word not in label.casefold()]
        assert not missing, f"{name}.{entry}: {label!r} lacks {missing}"


@pytest.mark.parametrize("name", SCHEMAS)
def test_help_page_has_the_names_that_the_editor_shows(name):
    page = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {TITLES[name]}")
    missing = [
        f"**{i.display_name}** `{i.id}`"
        for i in SCHEMAS[name].inputs
        if not isinstance(i, io.Autogrow.Input) and f"**{i.display_name}** `{i.id}`" not in page
    ]
    assert not missing, missing


@pytest.mark.parametrize("sought", SOUGHT)
def test_a_word_finds_its_node(sought):
    found = SCHEMAS[SOUGHT[sought]]
    assert any(sought in text.casefold() for text in (found.display_name, *found.search_aliases))


def test_sentences_name_nodes_as_the_editor_does():
    named = re.compile(r'^(?:NODE|SAVE, LOAD|    node) = (.*)$|node: str = ("[^"]*")', re.MULTILINE)
    for path in sorted(p for top in ("nodes", "patching") for p in (ROOT / top).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for match in named.finditer(text):
            for title in re.findall(r'"([^"]*)"', match[1] or match[2]):
                assert title in TITLES.values(), f"{path.name}: {title}"
        for node in TITLES:
            assert not re.search(rf'^(?!.*""").*"[^"]*\b{node}: ', text, re.MULTILINE), f"{path.name}: {node}"


def test_the_title_leaves_the_paper_out():
    assert title_of(next(n for n in node_classes() if n.__name__ == "UREMDGuidance")) == "Subject Guidance"
