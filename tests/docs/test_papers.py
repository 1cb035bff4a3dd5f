"""Checks docs/papers.md against the code. Standard library only, without ComfyUI."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "papers.md"
VERDICT = re.compile(r"faithful|deviates: .+|not computed: .+")
NUMBERED = {
    "2401.16762": [f"eq. {number}" for number in range(1, 11)],
    "2407.09779": [f"line {number}" for number in range(1, 15)],
    "2407.06187": [f"eq. {number}" for number in range(1, 5)] + [f"S3, line {number}" for number in range(1, 10)],
}


def rows() -> list[tuple[str, list[str]]]:
    """Each row of the tables: the arXiv id of its section, and its four cells."""
    found, paper = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## .*arXiv (\d{4}\.\d{5})", line):
            paper = heading[1]
        elif line.startswith("| ") and not line.startswith("| paper"):
            found.append((paper, [cell.strip() for cell in line.split("|")[1:-1]]))
    return found


ROWS = rows()
LINKS = [(paper, *link) for paper, cells in ROWS for link in re.findall(r"\[`([\w.]+)`\]\(\.\./([\w./]+)\)", cells[2])]


def definitions(tree: ast.Module | ast.ClassDef, prefix: str = ""):
    """Every function, method and class of a file with its name inside the file."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{prefix}{node.name}.")


def docstrings(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {name: ast.get_docstring(node) or "" for name, node in definitions(tree)}


def expanded(label: str) -> set[str]:
    """The numbers in a row's first cell; "lines 4-8" stands for five of them."""
    found = set()
    for part in re.split(r",\s*(?=eq\.)", label):
        kind = re.match(r"(S3, )?(eq\.|lines?) (\d+)(?:-(\d+))?", part)
        if kind:
            name = (kind[1] or "") + kind[2].replace("lines", "line")
            found |= {f"{name} {number}" for number in range(int(kind[3]), int(kind[4] or kind[3]) + 1)}
    return found


@pytest.mark.parametrize(("paper", "name", "file"), LINKS, ids=[link[1] for link in LINKS])
def test_each_function_exists_and_cites_its_paper(paper, name, file):
    module = file.removesuffix(".py").replace("/", ".")
    assert name.startswith(f"{module}."), f"the link of {name} leads to {file}"
    found = docstrings(ROOT / file)
    inside = name.removeprefix(f"{module}.")
    assert inside in found, f"docs/papers.md names {name}, which does not exist"
    assert paper in found[inside], f"the docstring of {name} does not cite arXiv {paper}"


@pytest.mark.parametrize("paper", NUMBERED)
def test_each_kernel_that_cites_a_paper_is_in_its_table(paper):
    citing = {
        f"kernels.{path.stem}.{name}"
        for path in sorted((ROOT / "kernels").glob("*.py"))
        for name, docstring in docstrings(path).items()
        if paper in docstring
    }
    assert citing - {name for p, name, _ in LINKS if p == paper} == set()


@pytest.mark.parametrize("paper", NUMBERED)
def test_no_equation_or_line_is_left_out(paper):
    found = set().union(*(expanded(cells[0]) for p, cells in ROWS if p == paper))
    assert [number for number in NUMBERED[paper] if number not in found] == []


def test_each_row_has_one_of_three_verdicts():
    for _, cells in ROWS:
        assert len(cells) == 4, cells
        assert VERDICT.fullmatch(cells[3]), cells[3]
        assert ("not computed" in cells[3]) == (cells[2] == ""), cells
