"""The page docs/add-a-method.md quotes the files as they are, and names only what exists."""

import re

import pytest
from likeness.tests.add_a_method.install import ENTRY, FILES, HERE, IMPORT

ROOT = HERE.parents[1]
PAGE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
QUOTES = [text.split("\n", 1) for language, text in BLOCKS if language == "python"]
NAMES = sorted({name for name in re.findall(r"`([^`\s]+)`", PAGE) if "NODEID" not in name})
PLACES = [ROOT, ROOT / "patching", ROOT / "nodes", HERE]
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in (ROOT / "nodes", ROOT / "patching", ROOT / "kernels", HERE)
    for path in folder.rglob("*.py")
)


def test_each_file_is_quoted():
    assert {first.removeprefix("# ") for first, _ in QUOTES} == set(FILES)


@pytest.mark.parametrize(("first", "quoted"), QUOTES)
def test_quotes_are_in_the_files(first, quoted):
    assert quoted in (HERE / first.removeprefix("# ")).read_text(encoding="utf-8")


def test_the_lines_of_the_menu():
    (lines,) = [text for language, text in BLOCKS if language == "diff"]
    assert lines == f"+{IMPORT}+{ENTRY}"


@pytest.mark.parametrize("name", [name for name in NAMES if "/" in name or name.endswith((".py", ".md"))])
def test_named_files_exist(name):
    assert any((place / name).exists() for place in PLACES)


@pytest.mark.parametrize("name", [name for name in NAMES if re.fullmatch(r"[A-Za-z_]\w*(\.[a-z_]+)?", name)])
def test_named_code_exists(name):
    assert name.endswith((".py", ".md")) or re.search(rf"\b{name.split('.')[-1]}\b", SOURCES)


EXAMPLES = re.findall(r"^\| [^|]+ \| (`\w+_attention[^|]*|`tap_[^|]*) \| `([^`]+)` \|$", PAGE, re.MULTILINE)


def test_examples_call_what_they_show():
    assert len(EXAMPLES) == 4
    for calls, file in EXAMPLES:
        source = (ROOT / "patching" / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+_\w+)`", calls):
            assert f".{name}" in source, f"{file} does not use {name}"


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", PAGE))
def test_links_lead_somewhere(link):
    assert (ROOT / "docs" / link).exists()
