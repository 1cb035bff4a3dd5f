"""Rules for imports between folders. Runs in a second, without ComfyUI."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ("host", "features", "subject", "tinyland", "evaluation")
PAPERS = sorted({f"patching/{p.parent.name}" for p in ROOT.glob("patching/*/*.py") if p.parent.name not in SHARED})
ALLOWED = {  # package: what it may import besides itself
    "kernels": (),
    "patching": (),
    "patching/host": ("kernels",),
    "patching/features": ("kernels", "patching/host"),
    **dict.fromkeys(PAPERS, ("kernels", "patching/host", "patching/features")),  # never another paper
    "patching/subject": ("kernels", "patching/host", "patching/features", *PAPERS),
    "patching/tinyland": ("kernels", "patching/host", "patching/features", "patching/jedi"),
    "patching/evaluation": ("kernels", "patching/host"),
    "nodes": ("kernels", "patching"),
    "demo": ("kernels", "patching"),
    "lab": ("kernels", "patching", "demo", "benchmarks"),  # nothing imports it
}
FILES = [path for top in ("kernels", "patching", "nodes", "demo", "lab") for path in sorted((ROOT / top).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def imports_of(path: Path) -> set[str]:
    """The pack's own files that a file imports, imports for type checkers and inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            found |= {base / alias.name if (base / f"{alias.name}.py").is_file() else base for alias in node.names}
    return {target.relative_to(ROOT).as_posix() for target in found if target.with_suffix(".py").is_file()}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    package = max((p for p in ALLOWED if name_of(path).startswith(f"{p}/")), key=len)
    above = [t for t in imports_of(path) if not t.startswith(tuple(f"{p}/" for p in (package, *ALLOWED[package])))]
    assert not above, f"{name_of(path)} may import {', '.join(ALLOWED[package]) or 'nothing'}, got {', '.join(above)}"


def test_no_circles():
    graphlib.TopologicalSorter(
        {name_of(path): imports_of(path) for path in FILES}
    ).prepare()  # raises CycleError with the circle
