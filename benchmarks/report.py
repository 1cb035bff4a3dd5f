"""Report of a benchmark: rows of metrics with 95 % bootstrap intervals, and single figures with targets."""

from __future__ import annotations

import datetime
import json
import math
import operator
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ..demo.launcher.files import commit

RESULTS = Path(__file__).resolve().parent / "results"
RESAMPLES = 4000
_TAIL = (2.5, 97.5)


def mean_interval(values: ArrayLike, seed: int = 0) -> list[float]:
    """Mean with its 95 % percentile bootstrap interval: [mean, low, high].

    values: [subjects, prompts, ...]. Whole subjects are drawn, and whole prompts within each, because pictures of one
    subject or one prompt fail together. With one dimension, values are drawn.
    """
    array = np.asarray(values, float)
    _finite(array.ravel())
    cells = array.mean(tuple(range(2, array.ndim))).reshape(len(array), -1)
    rng = np.random.default_rng(seed)
    subjects = rng.integers(0, len(cells), (RESAMPLES, len(cells), 1))
    prompts = rng.integers(0, cells.shape[1], (RESAMPLES, *cells.shape))
    return _interval(cells.mean(), cells[subjects, prompts].mean((1, 2)))


def interval_figures(name: str, values: ArrayLike) -> dict[str, float]:
    """Figures of a mean: NAME, and the ends of its 95 % interval as NAME_low and NAME_high."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), mean_interval(values), strict=True))


def seed_error(values: ArrayLike) -> float:
    """Standard error that a mean owes to its seeds alone, of the same subjects and prompts.

    values: [subjects, prompts, seeds] with at least two seeds.
    """
    array = np.asarray(values, float)
    _finite(array.ravel())
    return float(np.sqrt(array.var(2, ddof=1).mean() / array.size))


def largest_seed_error(differences: Iterable[np.ndarray]) -> dict[str, float]:
    """Figure `largest_seed_error` of several means; those of one value per prompt have no seeds to draw."""
    return {"largest_seed_error": max(seed_error(values) for values in differences if values.ndim == 3)}


def median_interval(values: Iterable[float], seed: int = 0) -> list[float]:
    """Median with its 95 % percentile bootstrap interval: [median, low, high]."""
    values = _finite(values)
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return _interval(np.median(values), np.median(values[drawn], axis=1))


def _finite(values: Iterable[float]) -> np.ndarray:
    array = np.asarray(list(values), float)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"expected a list of finite numbers, got {array.shape} with {np.isfinite(array).sum()} finite")
    return array


def _interval(middle: float, resampled: np.ndarray) -> list[float]:
    low, high = np.percentile(resampled, _TAIL)
    return [float(middle), float(low), float(high)]


_MET = {"at least": operator.ge, "at most": operator.le, "more than": operator.gt}


@dataclass(frozen=True)
class Target:
    """Target of a figure: `Target("at least", 0.95)`, `Target("at most", 1.005)` or `Target("more than", 0.0)`."""

    sense: str
    value: float

    def met(self, figure: float) -> bool:
        return _MET[self.sense](figure, self.value)


@dataclass(frozen=True)
class Report:
    """Result of a benchmark.

    rows: dicts {"name": text, METRIC: [mean, low, high], ...}, or [value] for a metric without an interval. figures:
    None for a figure that this machine cannot measure. notes and picture appear only on the Markdown page, entries only
    in the JSON. apart: rows with another first metric have another table.
    """

    bench: str
    rows: list[dict[str, Any]]
    figures: Mapping[str, float | None]
    targets: Mapping[str, Target] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    picture: Image.Image | None = None
    picture_caption: str = ""
    entries: Mapping[str, Any] = field(default_factory=dict)
    apart: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON form, the same for every benchmark."""
        return {
            "bench": self.bench,
            "commit": commit(),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(),
            "rows": [{k: v if k == "name" else [_rounded(x) for x in v] for k, v in row.items()} for row in self.rows],
            "figures": {k: None if v is None else _rounded(v) for k, v in self.figures.items()},
            **self.entries,
        }


def machine() -> str:
    """Description of the machine in one line: device, threads, and versions that affect speed."""
    import torch
    from comfyui_version import __version__ as host_version

    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f"{_processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads"
    return f"{device}, {platform.system()}, torch {torch.__version__}, ComfyUI {host_version}"


def _processor() -> str:
    description = Path("/proc/cpuinfo")
    lines = description.read_text(encoding="utf-8").splitlines() if description.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _rounded(value: float) -> float:
    """Rounds to five significant digits, but keeps the whole integer part."""
    return round(float(value), max(0, 4 - math.floor(math.log10(abs(value))))) if value else 0.0


def table(report: Report) -> str:
    """Formats rows and figures as aligned plain text."""
    parts = [f"{report.bench}: {machine()}"]
    parts += [_aligned(cells) for cells in (*_row_cells(report), _figure_cells(report)) if len(cells) > 1]
    return "\n\n".join(parts)


def markdown(report: Report, facts: Mapping[str, Any], picture: str | None = None) -> str:
    """Formats the committed page: the tables, the notes, and the picture if there is one."""
    parts = [f"# {report.bench}", f"{facts['machine']}; commit {facts['commit']}, {facts['date']}."]
    parts += [_piped(cells) for cells in (*_row_cells(report), _figure_cells(report)) if len(cells) > 1]
    if picture:
        parts += [f"![{report.picture_caption}]({picture})", report.picture_caption]
    parts += ["\n".join(f"* {note}" for note in report.notes)] if report.notes else []
    return "\n\n".join(parts) + "\n"


def publish(report: Report, folder: Path, name: str = "") -> list[Path]:
    """Writes NAME.json, NAME.md and the picture, each whole or not at all; NAME is the benchmark's if none is given."""
    facts, picture, written = report.as_dict(), None, []
    name = name or report.bench
    if report.picture is not None:
        picture = f"{name}.jpg"
        written.append(_write(folder / picture, report.picture))
    written.append(_write(folder / f"{name}.md", markdown(report, facts, picture).encode()))
    return [*written, write_json(facts, folder / f"{name}.json")]


def write_json(facts: Mapping[str, Any], path: Path) -> Path:
    return _write(path, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())


def _write(path: Path, content: bytes | Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            content.save(temporary, "JPEG", quality=88)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _row_cells(report: Report) -> list[list[list[str]]]:
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in report.rows:
        tables.setdefault(next(key for key in row if key != "name") if report.apart else "", []).append(row)
    return [_cells(rows) for rows in tables.values()]


def _cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    metrics = list(dict.fromkeys(k for row in rows for k in row if k != "name"))
    lines = [[row["name"], *(_shown(row[m]) if m in row else "-" for m in metrics)] for row in rows]
    return [["", *metrics], *lines]


def _shown(interval: Sequence[float]) -> str:
    middle, *ends = interval
    return f"{middle:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else f"{middle:.3f}"


def _figure_cells(report: Report) -> list[list[str]]:
    lines = [["figure", "value", "target"]]
    for name, value in report.figures.items():
        target = report.targets.get(name)
        if value is None:
            lines.append([name, "-", "not measured"])
            continue
        verdict = f"{target.sense} {target.value:g}: {'met' if target.met(value) else 'missed'}" if target else ""
        lines.append([name, f"{value:.4f}", verdict])
    return lines


def _aligned(cells: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _piped(cells: list[list[str]]) -> str:
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]
    return "\n".join([head, "|" + "---|" * len(cells[0]), *body])
