"""Old Pythons end run.py with one sentence; new ones need only their standard library."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OLD = ("2.7", "3.5", "3.6", "3.7", "3.8", "3.9")


def find(version: str) -> str | None:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [str(path) for path in pyenv.glob(f"{version}*/bin/python")]
    return found[0] if found else shutil.which(f"python{version}")


def one_sentence(text: str) -> bool:
    return text.startswith("run.py: ") and text.count("\n") == 1 and "Traceback" not in text


@pytest.mark.parametrize("version", OLD)
def test_an_old_python_gets_one_sentence(version: str):
    python = find(version)
    if python is None or subprocess.run([python, "--version"], capture_output=True).returncode != 0:
        pytest.skip("no such old Python on this machine")
    ended = subprocess.run([python, str(ROOT / "run.py"), "demo"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert one_sentence(ended.stderr), ended.stderr
    assert "3.10" in ended.stderr
    assert version in ended.stderr


def test_the_version_is_asked_before_anything_else(tmp_path: Path):
    """Pretends an old version, for machines that have none."""
    code = (
        "import runpy, sys; sys.version_info = (3, 9, 9); sys.argv = ['run.py', 'demo']; "
        f"runpy.run_path({str(ROOT / 'run.py')!r})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "LIKENESS_CACHE": str(tmp_path / "cache")},
    )
    assert ended.returncode == 1
    assert one_sentence(ended.stderr), ended.stderr
    assert not (tmp_path / "cache").exists()


def test_python_2_can_parse_it():
    """Checks the syntax tree for syntax that Python 2.7 lacks, because few machines still have one."""
    text = (ROOT / "run.py").read_text(encoding="ascii")
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(
            node,
            ast.JoinedStr
            | ast.NamedExpr
            | ast.AnnAssign
            | ast.AsyncFunctionDef
            | ast.Nonlocal
            | ast.YieldFrom
            | ast.Match,
        ), f"line {node.lineno}"
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            assert not any(isinstance(element, ast.Starred) for element in node.elts), f"line {node.lineno}"
        if isinstance(node, ast.Dict):
            assert None not in node.keys, f"line {node.lineno}"
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None, f"line {node.lineno}"
            assert not node.args.kwonlyargs, f"line {node.lineno}"
        if isinstance(node, ast.arg):
            assert node.annotation is None, f"line {node.lineno}"
        if isinstance(node, ast.Raise):
            assert node.cause is None, f"line {node.lineno}"


def test_the_launcher_needs_the_standard_library_alone():
    launcher = ("__init__", "environment", "files", "install", "pins", "pythons")
    for file in ("run.py", "demo/__init__.py", *(f"demo/launcher/{name}.py" for name in launcher)):
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] in {*sys.stdlib_module_names, "demo"}, f"{file} imports {name}"
