"""The table of the nodes: what each needs so that a newcomer finds it, sees it and tries it.

`pytest -rP tests/nodes/test_table.py` prints it.
"""

import json
import re

from likeness.docs import translations
from likeness.tests import workflows

ROOT = workflows.FOLDER.parent
CATEGORIES = {f"Likeness/{name}" for name in ("Sample", "Subject", "Guide", "Maps and masks", "Files", "Demo")}
MEASURED = json.loads((ROOT / "tests" / "browser" / "graphs" / "sizes.json").read_text(encoding="utf-8"))
USED = {name: {entry["class_type"] for entry in workflows.api(name).values()} for name in workflows.NAMES}
ENGLISH = translations.read("en")
CURRENT = {
    language: (translations.read(language).keys(), translations.translated(language).keys())
    for language in translations.LANGUAGES
}
PAGES = {language: translations.pages(language) for language in translations.PAGED}
STALE = {language: translations.stale_pages(language) for language in translations.PAGED}


def is_translated(name: str) -> bool:
    """True where each language has all texts of the node as they are now, and two have its help page."""
    texts = {key: text for key, text in ENGLISH.items() if key[:2] == ("nodeDefs.json", name)}
    whole = all(texts.keys() <= keys and {*texts.values()} <= known for keys, known in CURRENT.values())
    return bool(texts) and whole and all(name in PAGES[one] and name not in STALE[one] for one in PAGES)


def row(schema) -> dict[str, str]:
    """Aliases, category, workflow, help picture, size in both renderers, translations; an empty cell lacks one."""
    name = schema.node_id
    page = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    sizes = [size for signature, size in MEASURED.items() if signature.partition("(")[0] == name]
    return {
        "aliases": ", ".join(schema.search_aliases or ()),
        "category": schema.category if schema.category in CATEGORIES else "",
        "workflow": next((one for one, kinds in USED.items() if name in kinds), ""),
        "picture": "yes" if any((ROOT / "web" / "docs" / one).is_file() for one in pictures) else "",
        "size": "{:.0f} x {:.0f}, {:.0f} in Nodes 2.0".format(*sizes[0]) if sizes else "",
        "translated": "yes" if is_translated(name) else "",
    }


def test_a_node_lacks_nothing(node):
    schema = node.GET_SCHEMA()
    found = row(schema)
    print(f"| {schema.display_name} | {' | '.join(found.values())} |")
    assert not {column for column, cell in found.items() if not cell}


def test_a_language_without_a_text_is_seen(monkeypatch):
    keys, known = CURRENT["ko"]
    lost = ("nodeDefs.json", "LikenessSampler", "description")
    monkeypatch.setitem(CURRENT, "ko", (keys - {lost}, known))
    assert is_translated("LikenessScore") and not is_translated("LikenessSampler")
