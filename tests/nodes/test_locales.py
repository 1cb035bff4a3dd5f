"""Translations of the nodes: complete, made from the present English texts, and undamaged."""

import json
import re
import runpy
import shutil
from pathlib import Path

import pytest
from likeness.nodes import node_classes
from likeness.nodes._api import io

ROOT = Path(__file__).resolve().parents[2]
LOCALES = ROOT / "locales"
TOOL = runpy.run_path(str(ROOT / "docs" / "translations.py"))
LANGUAGES = TOOL["LANGUAGES"]
EXAMPLE = "Share of it. whole picture: all of it. Neutral: 0.5, from Layout Template. 'dog' and map_blocks stay."
TITLE = "Layout Template (Pick-and-Draw)"
KNOWN = {
    EXAMPLE: "占比。whole picture：全部。中性值：0.5，来自布局模板。'dog' 与 map_blocks 不变。",
    TITLE: "布局模板（Pick-and-Draw）",
}


def test_english_texts_are_those_of_the_schemas():
    written = json.loads((LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert written == TOOL["schemas"](), "run python docs/translations.py, then translate what --check names"


def test_english_texts_are_no_syntax_of_the_front_ends_translator():
    found = [text for text in TOOL["read"]("en").values() if TOOL["SYNTAX"].search(text)]
    assert not found, f"{found} has one of {{ }} | @, which the front end may read as syntax"


def test_every_category_is_translated():
    named = json.loads((LOCALES / "en" / "main.json").read_text(encoding="utf-8"))["nodeCategories"]
    assert named.keys() == {part for n in node_classes() for part in n.GET_SCHEMA().category.split("/")[1:]}


@pytest.mark.parametrize("language", ("en", *LANGUAGES))
def test_the_packs_name_stays(language):
    texts = json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))
    assert {name: texts[name] for name in TOOL["NAMED"]} == TOOL["NAMED"]


def test_texts_of_the_scripts_are_there():
    texts = json.loads((LOCALES / "en" / "main.json").read_text(encoding="utf-8"))["likeness"]
    said = [
        s for p in (ROOT / "web").glob("*.js") for s in re.findall(r'say\("([^"]+)"', p.read_text(encoding="utf-8"))
    ]
    assert len(said) > 2 and texts.keys() >= {*said} and all(key == text for key, text in texts.items())


@pytest.mark.parametrize("language", LANGUAGES)
def test_translation_is_complete(language):
    if not (LOCALES / language).exists():
        pytest.skip(f"locales/{language} is not begun")
    found = TOOL["problems"](language)
    assert not found, f"{len(found)} problems, such as:\n" + "\n".join(found[:20])


@pytest.mark.parametrize("language", LANGUAGES)
def test_neutral_values_of_choices_are_kept(language):
    """A widget shows its values as they are in every language, so a sentence must name them so."""
    texts = TOOL["read"](language)
    for node in node_classes():
        for entry in node.GET_SCHEMA().inputs:
            found = re.search(r"Neutral: ([^,.;]+)", entry.tooltip)
            text = texts.get(("nodeDefs.json", node.GET_SCHEMA().node_id, "inputs", entry.id, "tooltip"))
            if isinstance(entry, io.Combo.Input) and text and found and found[1] in entry.options:
                assert found[1] in text, f"{language}: {node.GET_SCHEMA().node_id}.{entry.id} lacks {found[1]}: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_pages_are_whole(language):
    found = {node: TOOL["page_faults"](english, text) for node, (english, text) in TOOL["pages"](language).items()}
    current = {node: faults for node, faults in found.items() if faults and node not in TOOL["stale_pages"](language)}
    assert not current, current


def test_a_page_that_lost_a_part_is_found():
    page = "# Title\n\n![A](b.webp) of `code`, 0.5.\n\n| input |\n"
    assert TOOL["page_faults"](page, page.replace("Title", "标题")) == []
    for lost in ("# ", "`code`", "b.webp", "0.5", "| "):
        assert TOOL["page_faults"](page, page.replace(lost, "")), lost


def test_only_known_languages_are_published():
    assert {folder.name for folder in LOCALES.iterdir()} <= {"en", *LANGUAGES}
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert [line for line in ignored if "locales" in line or line.startswith("*")] == ["/locales/*/sources.json"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("0.5", "半", "lacks 0.5"),
        ("whole picture", "整张图像", "lacks whole picture"),
        ("map_blocks", "块", "lacks map_blocks"),
        ("'dog'", "“狗”", "lacks dog"),
        ("布局模板", "版式模板", "does not name the node Layout Template"),
        ("全部", "{全部}", "may read as syntax"),
    ],
)
def test_damage_is_found(old, new, fault):
    faults, titles = TOOL["faults"], {TITLE}
    assert faults("zh", "tooltip", EXAMPLE, KNOWN, titles) == []
    damaged = KNOWN | {EXAMPLE: KNOWN[EXAMPLE].replace(old, new)}
    assert fault in "; ".join(faults("zh", "tooltip", EXAMPLE, damaged, titles))


def test_wide_and_untranslated_texts_are_found():
    faults = TOOL["faults"]
    assert "is not translated" in faults("ko", "name", "Reference mask", {"Reference mask": "Reference mask"}, set())
    assert "36 columns" in faults("ja", "name", "Mask", {"Mask": "マ" * 18}, set())[0]


def test_a_changed_english_text_makes_its_translation_stale(tmp_path):
    folder = tmp_path / "locales"
    shutil.copytree(LOCALES / "en", folder / "en")
    file = folder / "en" / "main.json"
    TOOL["add"]("zh", {"Maps and masks": "图与遮罩"}, folder)
    assert TOOL["translated"]("zh", folder) == {"Maps and masks": "图与遮罩"}
    content = json.loads(file.read_text(encoding="utf-8"))
    content["nodeCategories"]["Maps and masks"] = "Masks and maps"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert "stale, the English text is now: Masks and maps" in "\n".join(TOOL["problems"]("zh", folder))
    TOOL["add"]("zh", {"Masks and maps": "遮罩与图"}, folder)
    assert not any("stale" in line for line in TOOL["problems"]("zh", folder))
