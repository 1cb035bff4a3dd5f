"""Costs of every method on a GPU at the sizes of Stable Diffusion 1.5 and SDXL, with random weights and no network.

Every row is written as soon as it is measured. Another run on the same device and code goes on after the last one.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from . import report
from .gpu_rows import FULL, QUICK, Group, Networks, Row, groups
from .report import Report, Target, machine
from .timing import silence

SECONDS, QUICK_SECONDS = 510.0, 240.0
"""Time to measure in; with the start of Python, nine minutes."""
_ROOT = Path(__file__).resolve().parents[1]
_METHODS = {
    "retouch_step_banked_ratio": Target("at most", 1.05),
    "retouch_step_batched_ratio": Target("at most", 3.1),
    "whole_ratio": Target("at most", 2.6),
    "whole_kept_ratio": Target("at most", 1.9),
    "guided_step_ratio": Target("at most", 2.0),
    "guided_all_maps_step_ratio": Target("at most", 2.5),
    "guided_every_second_ratio": Target("at most", 2.0),
    "guided_whole_ratio": Target("at most", 2.8),
    "guided_to_autograd_ratio": Target("at most", 1.0),
    "guided_step_memory_ratio": Target("at most", 1.4),
    "joint_n4_ratio": Target("at most", 1.6),
    # The noise level of each step for every wrapper, whether its gradient is finite, and a few waits per run.
    **{f"{name}_extra_waits": Target("at most", 3.0) for name in ("retouch_step_banked", "retouch_step_batched")},
    **{f"{name}_extra_waits": Target("at most", 3.0) for name in ("guided_step", "joint_n4")},
}
TARGETS = {
    **{f"{kind}_fp16_{name}": target for kind in ("sd15", "sdxl") for name, target in _METHODS.items()},
    "uremd_speedup_fp32_4096": Target("at least", 3.0),
    **{f"uremd_memory_ratio_{dtype}_4096": Target("at least", 5.0) for dtype in ("fp32", "fp16", "bf16")},
    **{f"uremd_matmul_ratio_fp32_{tokens}": Target("at most", 2.0) for tokens in FULL.tokens},
}
NOTES = (
    "Weights are random, pictures are noise: only time and memory mean something.",
    "time ratio: median over rounds of a run to its reference right before or after it, with a 95 % bootstrap "
    "interval. The reference is the plain run of the same model, for a set as many plain pictures one after the other. "
    "seconds: median of the runs.",
    "peak GiB: allocated above the loaded weights. memory ratio: to the peak of the reference.",
    "waits per step: how often the host waits for the device in a run, divided by the steps; the host's own samplers "
    "wait, too, as the reference shows. extra waits: those beyond the reference's; a step needs its noise level.",
    "appearance loss: with its gradient. kernel: Triton where it works, else PyTorch.",
)


@dataclass
class Table:
    """Rows and figures so far, and what failed; `file` keeps them."""

    quick: bool
    file: Path | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Any]:
        """Everything that must be equal for rows of another run to be kept."""
        return {"code": code(), "quick": self.quick}

    def load(self) -> None:
        """Takes over the rows of the file, or else of the published results, if device and code are the same."""
        files = [file for file in (self.file, report.RESULTS / "gpu.json") if file is not None and file.is_file()]
        if not files:
            return
        kept = json.loads(files[0].read_text(encoding="utf-8"))
        if kept["machine"] == machine() and all(kept.get(name) == value for name, value in self.state.items()):
            self.rows, self.figures, self.finished = kept["rows"], kept["figures"], kept["finished"]

    def add(self, row: Row) -> None:
        """Measures a row and writes the table."""
        try:
            metrics, figures = row.measure()
        except Exception as error:  # noqa: BLE001 - one failed row must not cost the others their minutes
            self.fail(row.name, error)
            return
        self.rows.append({"name": row.name, **metrics})
        for name, value in figures.items():
            self.figures[name] = max(value, self.figures.get(name, value))
        self._write()

    def fail(self, name: str, error: Exception) -> None:
        traceback.print_exception(error)
        self.failed[name] = str(error).partition("\n")[0] or type(error).__name__
        self._write()

    def finish(self, group: Group) -> None:
        self.finished.append(group.name)
        self._write()

    def _write(self) -> None:
        if self.file is not None:
            report.publish(self.report(), self.file.parent, self.file.stem)

    def report(self) -> Report:
        failed = tuple(f"Failed: {name}: {why}" for name, why in self.failed.items())
        missing = [group.name for group in groups() if group.name not in self.finished]
        left = (f"Not measured yet: {', '.join(missing)}.",) if missing else ()
        entries = {**self.state, "finished": list(self.finished)}
        return Report("gpu", self.rows, self.figures, TARGETS, NOTES + failed + left, entries=entries, apart=True)


def run(quick: bool, seconds: float | None = None, json_file: Path | None = None) -> Report:
    """Measures what is not measured yet until the seconds are spent. quick: small networks, on a CPU as well."""
    if not quick and not torch.cuda.is_available():
        raise ValueError("expected an NVIDIA GPU, found none; bench gpu --quick rehearses at small sizes on the CPU.")
    table = Table(quick, json_file or (None if quick else report.RESULTS / "gpu.json"))
    table.load()
    deadline, took = time.monotonic() + (seconds or (QUICK_SECONDS if quick else SECONDS)), 0.0
    with silence():
        for row in remaining(table, Networks(QUICK if quick else FULL)):
            started = time.monotonic()
            if started + took > deadline:  # the next row may take as long as the last one
                break
            table.add(row)
            took = time.monotonic() - started
            print(f"{row.name}: {took:.1f} s", flush=True)
    return table.report()


def remaining(table: Table, networks: Networks) -> Iterator[Row]:
    """Yields the rows that the table lacks. A group whose rows were all measured is finished."""
    known = {row["name"] for row in table.rows}
    for group in groups():
        if group.name in table.finished:
            continue
        failed = len(table.failed)
        try:
            rows = group.rows(networks)
        except Exception as error:  # noqa: BLE001 - nor must a group that cannot be prepared
            table.fail(group.name, error)
            continue
        yield from (row for row in rows if row.name not in known)
        if len(table.failed) == failed:
            table.finish(group)


def code() -> str:
    """Hash of the sources that are measured and that measure."""
    state = hashlib.sha256()
    for folder in ("kernels", "patching", "nodes", "benchmarks"):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            state.update(path.read_bytes())
    return state.hexdigest()[:16]
