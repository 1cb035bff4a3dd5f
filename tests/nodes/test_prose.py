"""Rules for prose and files that a machine can check. Standard library only, without ComfyUI."""

import ast
import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = [
    ROOT / "__init__.py",
    ROOT / "run.py",
    *(
        p
        for top in ("nodes", "patching", "kernels", "demo", "benchmarks", "lab")
        for p in sorted((ROOT / top).rglob("*.py"))
    ),
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
    *sorted((ROOT / "web" / "docs").glob("*.md")),
]
NODES = sorted((ROOT / "nodes").glob("*.py"))
MOST_WORDS, MOST_LINES, MEAN_LINES, MOST_SKIPS = 25, 300, 150, 10

BEGINNINGS = re.compile(r"(as|from|how|if|of|that|what|when|where|whether|which|who|whose|whom|why)\b", re.IGNORECASE)
BRITISH = re.compile(
    r"colour|grey|centre|centring|behaviour|honour|licence|favour|neighbour|catalogue|artefact|modell(ed|ing)|labell"
    r"|cancell(ed|ing)|defence|whilst|(personal|normal|recogn|initial|optim|organ|standard|general|summar|minim|maxim"
    r"|visual|real|serial|special|quant|token|util|parallel|random|synchron|equal|neutral|stabil|memor|vector|regular"
    r"|local|final|character|categor|emphas|penal)is(e|ed|es|er|ing|ation)\b|analys(e|ed|es|ing)\b",
    re.IGNORECASE,
)
FROZEN = re.compile(
    r"colour_(accuracy|index)|I personalised|the personalised model alone|nothing personalised|[\"`]colour[\"`]"
)
"""Spellings that stay: a published figure, and an attribute named by a key of the judge's saved weights."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def docstrings(path: Path) -> tuple[tuple[int, str], ...]:
    """(line, text) of every docstring, including those of constants and fields."""
    return tuple(_docstrings(path))


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = getattr(node, "body", ())
        for statement in body if isinstance(body, list) else ():
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value


def sentences(text: str) -> list[str]:
    """Sentences of a docstring. "name: meaning" begins a new one, and code counts as one word."""
    text = re.sub(r"``?[^`]+``?", "code", text)
    text = re.sub(r"\b(e\.g|i\.e|eq|eqs|fig|cf|vs)\.", r"\1", text)
    text = re.sub(r"\n(?=[^\n]*\S {2,}\S)", "\0", text)  # rows of a table
    text = re.sub(r"(\A|\n\s*|[.;] )([\w*/, ()-]{1,40}):\s", "\\1\0\\2\0", text)
    text = re.sub(r"\n\s*\n", "\0", text)
    parts = re.split(r"\0|(?<=[.?!])[\"')]*\s+", text)
    return [" ".join(part.split()) for part in parts if re.search(r"\w", part)]


def words(sentence: str) -> list[str]:
    """Words of a sentence; a shape, formula or reference in brackets counts as one."""
    return [word for word in re.sub(r"\[[^][]*\]|\([^()]*\)", "x", sentence).split() if re.search(r"\w", word)]


def paragraphs(page: str) -> list[str]:
    """Paragraphs, headings, list items and table cells of a Markdown page, without code, markup and addresses."""
    page = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    page = re.sub(r"\n\n(( {4,}.*)?\n)+", "\n\n", page)  # indented code
    page = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", page)
    page = re.sub(r"^[|: -]+$", "", page, flags=re.MULTILINE)  # rules of tables
    page = re.sub(r"^ *(#+|[*-]|\d+\.) +|^\|| \|(?= |$)", "\n\n", page, flags=re.MULTILINE).replace("*", "")
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", page) if part.strip()]


def shown_texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of a node file's string literals other than docstrings: tooltips, descriptions and messages."""
    known = {text for _, text in docstrings(path)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in known:
            yield node.lineno, node.value


def too_long(texts: Iterable[tuple[object, str]]) -> str:
    """Report of the sentences with more than MOST_WORDS words, empty if there are none."""
    found = [
        f"{place}: {len(words(sentence))} words: {sentence}"
        for place, text in texts
        for sentence in sentences(text)
        if len(words(sentence)) > MOST_WORDS
    ]
    return "\n".join(found)


def in_all(paths: Iterable[Path], texts_of) -> Iterator[tuple[str, str]]:
    """("file:line", text) of all texts of the files."""
    return ((f"{name_of(path)}:{line}", text) for path in paths for line, text in texts_of(path))


def test_docstrings_begin_with_a_noun_or_a_verb():
    texts = in_all(SOURCE, docstrings)
    found = [f"{place}: {text.split()[0]}" for place, text in texts if BEGINNINGS.match(text.strip())]
    assert not found, "\n".join(found)


def test_sentences_are_short():
    report = too_long(in_all(SOURCE, docstrings))
    assert not report, report


def test_sentences_of_widgets_are_short():
    report = too_long(in_all(NODES, shown_texts))
    assert not report, report


def test_sentences_of_pages_are_short():
    report = too_long((name_of(path), text) for path in PAGES for text in paragraphs(path.read_text(encoding="utf-8")))
    assert not report, report


def test_sentences_of_the_list_of_nodes_are_short():
    report = too_long(json.loads((ROOT / "node_list.json").read_text(encoding="utf-8")).items())
    assert not report, report


def test_spelling_is_american():
    others = (path for path in TESTS if path != Path(__file__).resolve())
    found = [
        f"{name_of(path)}:{number}: {match[0]}"
        for path in (*SOURCE, *others, *PAGES, ROOT / "node_list.json")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in BRITISH.finditer(FROZEN.sub("", line))
    ]
    assert not found, "\n".join(found)


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (*SOURCE, *TESTS)}
    long = [f"{name_of(path)}: {length}" for path, length in lengths.items() if length > MOST_LINES]
    assert not long, long
    assert sum(lengths.values()) / len(lengths) <= MEAN_LINES


def test_the_formatter_is_rarely_overruled():
    marker = "fmt: " + "skip"
    found = [name_of(path) for path in (*SOURCE, *TESTS) for _ in range(path.read_text(encoding="utf-8").count(marker))]
    assert len(found) <= MOST_SKIPS, found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Reads a file. Raises ValueError.", [3, 2]),
        ("Sums values.\n\n    x: [rows, n], all\n        of them. size, y: others", [2, 1, 4, 2, 1]),
        ("Equation (arXiv 2407.06187, eq. 4) of `a. b`.", [4]),
    ],
)
def test_sentences_are_found(text, expected):
    assert [len(words(sentence)) for sentence in sentences(text)] == expected


PAGE = """# Head

One sentence. Another
of *five* words [here](there.md).

    code is skipped

* item, `code`
  goes on

| a | b |
|---|---|
| one cell. More | |

```python
skipped()
```
"""


def test_paragraphs_of_a_page_are_found():
    assert paragraphs(PAGE) == [
        "Head",
        "One sentence. Another of five words here.",
        "item, `code` goes on",
        "a",
        "b",
        "one cell. More",
    ]
