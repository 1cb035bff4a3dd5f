"""A campaign of fuzzed graphs: draws them, runs them, shrinks what fails and keeps its graph."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from ...demo.launcher.client import Prompt
from ..kept import cache_folder, code_of
from ..report import Report, write_json
from .figures import DRAWN, NOTES, TARGETS, figures
from .graphs import Case, cases, is_ours, kinds_of
from .oracle import HANG, Fault, Oracle, Verdict
from .reduction import reduced
from .server import Server, serving

QUICK_COUNT = 5
SHRINK_SECONDS = 120.0
_REPORT_EVERY = 20
_ROOT = Path(__file__).resolve().parents[2]
_JUDGED = ("nodes", "patching", "kernels", "benchmarks/fuzz", "demo/launcher")
"""Folders whose code a verdict depends on."""


class _Found(Exception):
    """A graph with a fault."""

    def __init__(self, fault: Fault):
        self.fault = fault
        super().__init__(fault.signature)


class _Over(KeyboardInterrupt):
    """The time of the campaign is over; hypothesis passes this on at once."""


class Judge:
    """Verdicts on cases, each made once. A fault whose signature is known does not count again."""

    def __init__(self, oracle: Callable[[Case], Verdict], kept: Path | None = None, seconds: float = math.inf):
        """kept: file of verdicts that an earlier run made and this one adds to, so that it can resume. seconds: after
        which no new graph is run."""
        self._end = time.monotonic() + seconds
        self._oracle, self._kept = oracle, kept
        self._earlier = _read_verdicts(kept) if kept else {}
        self._verdicts: dict[str, Verdict] = {}
        self._known: set[str] = set()
        self.found: dict[str, tuple[Fault, Case]] = {}
        """Each new fault with its smallest case, by signature."""
        self.runs = 0
        self.kinds: Counter[str] = Counter()
        """Number of graphs with each class of node, and with each family of models."""
        self._shrinking: str | None = None
        self._until = 0.0

    def __call__(self, case: Case) -> None:
        """Raises _Found for a new fault, _Over after the time of the campaign."""
        key = json.dumps([case.prompt, case.before], sort_keys=True)
        if key not in self._verdicts:
            if self._shrinking and time.monotonic() > self._until:
                return  # shrunk for long enough; seen graphs keep their verdicts
            if self.ended:
                if self._shrinking:
                    return
                raise _Over
            self._verdicts[key] = self._verdict(key, case)
            self.runs += 1
            self.kinds.update(kinds_of(case))
            if self.runs % _REPORT_EVERY == 0:
                print(f"{self.runs} graphs, {len(self.found)} faults", flush=True)
        fault = self._verdicts[key].fault
        if fault is None or fault.signature in self._known:
            return
        if self._shrinking is None:
            seconds = 0.0 if fault.kind == HANG else SHRINK_SECONDS  # each try would wait for its end
            self._shrinking, self._until = fault.signature, time.monotonic() + seconds
        if fault.signature == self._shrinking:
            raise _Found(fault)

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts on all graphs of this search."""
        return list(self._verdicts.values())

    def _verdict(self, key: str, case: Case) -> Verdict:
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        if name not in self._earlier:
            self._earlier[name] = verdict = self._oracle(case)
            if self._kept:
                self._kept.parent.mkdir(parents=True, exist_ok=True)
                with self._kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, dataclasses.asdict(verdict)]) + "\n")
        return self._earlier[name]

    @property
    def ended(self) -> bool:
        """True once no new graph is run."""
        return time.monotonic() > self._end

    def reduce(self, fault: Fault, case: Case, schemas: dict[str, Any]) -> tuple[Fault, Case]:
        """Makes the graph of a new fault smaller; the fault counts as known from now on."""
        self._known.add(fault.signature)
        self._shrinking = None
        seconds = 0.0 if fault.kind == HANG else SHRINK_SECONDS
        case, fault = reduced(case, fault, lambda smaller: self._oracle(smaller).fault, schemas, seconds)
        self._known.add(fault.signature)
        self.found.setdefault(fault.signature, (fault, case))
        return fault, case


def _read_verdicts(path: Path) -> dict[str, Verdict]:
    """Verdicts of a file; a last line that a stop has cut does not count."""
    found: dict[str, Verdict] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            name, made = json.loads(line)
        except ValueError:
            continue
        fault = Fault(**made["fault"]) if made["fault"] else None
        found[name] = Verdict(made["ended"], fault, made["renewed"], made["stray"])
    return found


def kept_verdicts(folder: Path) -> Path:
    """File of the verdicts on this state of the code, in this host."""
    state = hashlib.sha256((Path(os.environ["COMFYUI_PATH"]) / "comfyui_version.py").read_bytes())
    for path in sorted(path for part in _JUDGED for path in (_ROOT / part).rglob("*.py")):
        state.update(code_of(path).encode())
    return folder / f"verdicts-{state.hexdigest()[:16]}.jsonl"


def search(
    judge: Judge, schemas: dict[str, Any], first_seed: int, count: int, found: Callable[[Fault, Case], None]
) -> None:
    """Tries `count` graphs; `found` gets every new fault with its shrunk case."""
    left, round_seed = count, first_seed
    while left > 0:
        runs = judge.runs
        new = _first_fault(judge, schemas, round_seed, left)
        if new is not None:
            found(*judge.reduce(*new, schemas))
        elif judge.runs == runs or judge.ended:
            return  # all graphs that it draws are known, or the time is over
        left -= max(1, judge.runs - runs)
        round_seed += 1


def _first_fault(judge: Judge, schemas: dict[str, Any], round_seed: int, count: int) -> tuple[Fault, Case] | None:
    """Tries graphs until one has a new fault, and shrinks it."""
    failing: list[Case] = []

    @seed(round_seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        report_multiple_bugs=False,
    )
    @given(cases(schemas))
    def attempt(case: Case) -> None:
        try:
            judge(case)
        except _Found:
            failing.append(case)
            raise
        except SystemExit as error:  # which hypothesis takes for a failure of the case, and tries again
            raise KeyboardInterrupt from error

    try:
        attempt()
    except _Found as error:
        return error.fault, failing[-1]
    except _Over:
        return None
    return None


def run(quick: bool, seed: int = 0, count: int | None = None, seconds: float = math.inf) -> Report:
    """Runs a campaign against the ComfyUI of this environment. seconds: after which it draws no further graph."""
    count = count or (QUICK_COUNT if quick else DRAWN)
    folder = cache_folder() / "fuzz"
    with serving(Path(os.environ["COMFYUI_PATH"])) as server:
        judge = Judge(Oracle(server), kept_verdicts(folder), seconds)

        def found(fault: Fault, case: Case) -> None:
            path = folder / f"{seed}-{len(judge.found)}.json"
            write_json({"fault": vars(fault), "prompt": case.prompt, "before": case.before}, path)
            print(f"{fault.signature}\n    {path}", flush=True)

        search(judge, server.schemas, seed, count, found)
        ours = [kind for kind in server.schemas if is_ours(kind)]
    rows = [{"name": signature, "nodes": [float(len(case.prompt))]} for signature, (_, case) in judge.found.items()]
    faults = [fault for fault, _ in judge.found.values()]
    counted = figures(judge.verdicts, faults, {kind: judge.kinds[kind] for kind in ours})
    return Report("fuzz", rows, counted, TARGETS, NOTES, entries={"graphs_with": dict(sorted(judge.kinds.items()))})


def replay(path: Path, server: Server) -> Fault | None:
    """Judges a kept graph again."""
    kept: dict[str, Prompt | None] = json.loads(path.read_text(encoding="utf-8"))
    assert kept["prompt"] is not None
    return Oracle(server)(Case(kept["prompt"], kept["before"])).fault
