"""Cache of long benchmarks' pictures, so that an interrupted run can resume."""

from __future__ import annotations

import ast
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..demo.launcher.files import replacing
from ..demo.precision import fast_dtype

_ROOT = Path(__file__).resolve().parents[1]
_APART = ("benchmarks/kept.py", "benchmarks/report.py", "demo/judge/")
"""Files and folders that score and store pictures, but draw none."""
_TUNED = ("subjects", "embeddings")


def cache_folder() -> Path:
    return Path(os.environ.get("LIKENESS_CACHE", Path.home() / ".cache" / "comfyui-likeness"))


@dataclass(frozen=True)
class Kept:
    """Arrays by name, in a folder for one state of code, weights and settings."""

    folder: Path
    weights: Path

    @staticmethod
    def of(bench: str, module: str, settings: object, weights: Path, parts: tuple[str, ...]) -> Kept:
        """Cache of a benchmark.

        module: file in benchmarks/ that draws; it and all that it imports count, but for comments, docstrings and
        layout. settings: anything with a stable repr; the processor's precision counts, too. parts: names of the
        weights in the folder `weights` that every picture uses; a subject's own weights count for its pictures alone.
        """
        state = hashlib.sha256(repr((settings, fast_dtype())).encode())
        for path in sorted(sources_of(_ROOT / "benchmarks" / f"{module}.py")):
            state.update(code_of(path).encode())
        for part in parts:
            state.update((weights / f"{part}.safetensors").read_bytes())
        return Kept(cache_folder() / "benchmarks" / f"{bench}-{state.hexdigest()[:16]}", weights)

    def array(self, name: str, make: Callable[[], np.ndarray], subject: str = "") -> np.ndarray:
        """Array of this name: loaded if it was made before, otherwise made and saved.

        subject: name of the personalized subject whose weights the array depends on; empty: none.
        """
        path = self.path(name, subject)
        if path.exists():
            return np.load(path)
        made = make()
        with replacing(path) as temporary:
            temporary.write_bytes(content_of(made))
        return made

    def path(self, name: str, subject: str = "") -> Path:
        """File of an array."""
        tuned = (self.weights / kind / f"{subject}.safetensors" for kind in _TUNED)
        state = hashlib.sha256(b"".join(path.read_bytes() for path in tuned if path.exists())).hexdigest()[:8]
        return self.folder / f"{name}-{state}.npy"


def content_of(array: np.ndarray) -> bytes:
    """Content of an array's file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def sources_of(path: Path) -> set[Path]:
    """The file and all files of the pack that it imports, directly or not, except those that draw nothing."""
    found, left = set(), [path]
    while left:
        path = left.pop()
        if path not in found and not path.relative_to(_ROOT).as_posix().startswith(_APART):
            found.add(path)
            left += _imports(path)
    return found


@lru_cache(None)
def code_of(path: Path) -> str:
    """Code of a file: its syntax tree without docstrings and other bare strings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # pyright: ignore[reportAttributeAccessIssue]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(path: Path) -> Iterator[Path]:
    """Files of the pack that a file imports; those that only annotations need do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unused = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or node in unused:
            continue
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        names = [base / alias.name for alias in node.names]
        for candidate in (base, *names):
            for file in (candidate.with_suffix(".py"), candidate / "__init__.py"):
                if file.is_file():
                    yield file
