"""Calibration of the filter: cosines of instances of one collage, against those of different collages of an object."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...demo.judge.metrics import ranking_auc
from ...demo.launcher.files import Problem
from ...patching.evaluation.similarity import cosines
from ..farm.records import whole
from .kept import Kept
from .plan import Plan, Row
from .prompts import Bank
from .stages import Stages
from .studio import StageFailed

BARS = 40
_STEPS = np.round(np.arange(0.5, 0.975, 0.025), 3)


def rows(plan: Plan, count: int) -> list[Row]:
    """Sets of few objects, so that there are several collages of each."""
    groups: dict[str, list[Row]] = {}
    for row in plan.all_rows():
        groups.setdefault(row.thing, []).append(row)
        if row.number > 200 * count:
            break
    found: list[Row] = []
    for group in sorted(groups.values(), key=len, reverse=True):
        found += group[:5]
    return sorted(found[:count], key=lambda row: row.number)


def run(
    plan: Plan, stages: Stages, bank: Bank | None, chosen: Sequence[Row], say: Callable[[str], Any] = print
) -> Path:
    """Writes calibration.json and prints what each threshold keeps. Raises Problem."""
    found: list[tuple[str, np.ndarray]] = []
    kept = Kept(plan, plan.folder / "work" / "calibrate")
    assert stages.embed is not None
    for place, row in enumerate(chosen, 1):
        prompt = bank.of(plan, row) if bank else f"a {row.thing}"
        try:
            collage = kept.picture(row, "collage", "", [prompt], lambda r=row, p=prompt: stages.collage(r, p))
            cuts = [cut.picture for cut in stages.segment(row, collage) if not cut.dropped]
        except StageFailed as error:
            raise Problem(f"The set {row.id} ({row.thing}) failed in {error}: mend this and run again.") from error
        if cuts:
            found.append((row.thing, stages.embed.pictures(cuts)))
        if place % 10 == 0:
            say(f"{place}/{len(chosen)} collages")
    same, other = pairs(found)
    if not len(same) or not len(other):
        raise Problem(
            f"{len(found)} collages gave {len(same)} pairs of one collage and {len(other)} of different ones, expected "
            "some of both: raise --sets, or look at the instances with `run.py s3 show`."
        )
    facts = summary(same, other)
    for line in table(facts):
        say(line)
    path = plan.folder / "calibration.json"
    whole(path, json.dumps({"network": plan.stage("filter")["network"], **facts}, indent=1).encode())
    return path.resolve()


def pairs(found: Sequence[tuple[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs inside each collage, and of all pairs between collages of the same object."""
    same, other = [np.empty(0)], [np.empty(0)]
    for i, (thing, own) in enumerate(found):
        same.append(cosines(own, own)[np.triu_indices(len(own), 1)])
        other += [cosines(own, more).ravel() for name, more in found[i + 1 :] if name == thing]
    return np.concatenate(same), np.concatenate(other)


def summary(same: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Histograms, and the share of both kinds of pairs that each threshold keeps."""
    edges = np.linspace(-0.2, 1.0, BARS + 1)
    keeps = {
        f"{step:.3f}": [round(float((same >= step).mean()), 4), round(float((other >= step).mean()), 4)]
        for step in _STEPS
    }
    return {
        "pairs": {"same collage": len(same), "other collages": len(other)},
        "mean": {"same collage": round(float(same.mean()), 4), "other collages": round(float(other.mean()), 4)},
        "auc": round(ranking_auc(same, other), 4),
        "kept": keeps,
        "edges": [round(float(edge), 3) for edge in edges],
        "histogram": {
            "same collage": np.histogram(same, edges)[0].tolist(),
            "other collages": np.histogram(other, edges)[0].tolist(),
        },
    }


def table(facts: dict[str, Any]) -> list[str]:
    """Lines of what each threshold keeps.

    Pairs of one collage are of one subject where the collage is good. A threshold is right where it keeps most of them,
    and few pairs of different collages.
    """
    one, other = facts["pairs"].values()
    lines = [
        f"{one} pairs of one collage, {other} of different ones; AUC {facts['auc']:.3f}",
        "threshold  kept of one collage  kept of different ones",
    ]
    return lines + [f"{step:>9}  {100 * a:18.1f}%  {100 * b:21.1f}%" for step, (a, b) in facts["kept"].items()]
