"""Check that the cells which several processes draw are those which a benchmark reads."""

from pathlib import Path


def files_of(sweeps) -> set[Path]:
    """Files of all cells."""
    return {path for sweep in sweeps.values() for path, _ in sweep.files()}


def kept_in(folder: Path) -> set[Path]:
    """Files of a benchmark's cache."""
    return set((folder / "benchmarks").rglob("*.npy"))
