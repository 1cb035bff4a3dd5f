"""Cache of long benchmarks' pictures, so that an interrupted run can resume."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_CODE = (
    "kernels/*.py",
    "patching/**/*.py",
    "demo/world/*.py",
    "benchmarks/bases.py",
    "benchmarks/generate.py",
    "benchmarks/grid.py",
    "benchmarks/jedi_comparison.py",
    "benchmarks/layout_and_retouch_comparison.py",
    "benchmarks/pick_and_draw_comparison.py",
)
"""Source files that make pictures; the judge's are not among them."""


def cache_folder() -> Path:
    return Path(os.environ.get("LIKENESS_CACHE", Path.home() / ".cache" / "comfyui-likeness"))


@dataclass(frozen=True)
class Kept:
    """Arrays by name, in a folder for one state of code, weights and settings."""

    folder: Path

    @staticmethod
    def of(bench: str, settings: object, weights: Path) -> Kept:
        """Cache of a benchmark. settings: anything with a stable repr. weights: folder; the judge's weights do not
        count."""
        state = hashlib.sha256(repr(settings).encode())
        code = (path for pattern in _CODE for path in _ROOT.glob(pattern))
        for path in sorted({*code, *(f for f in weights.rglob("*.safetensors") if f.name != "judge.safetensors")}):
            state.update(path.read_bytes())
        return Kept(cache_folder() / "benchmarks" / f"{bench}-{state.hexdigest()[:16]}")

    def array(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Array of this name: loaded if it was made before, otherwise made and saved."""
        path = self.folder / f"{name}.npy"
        if path.exists():
            return np.load(path)
        made = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            np.save(file, made)
        temporary.replace(path)
        return made
