"""Tables of a report: means with intervals, paired differences, and counts of everything that is not in a mean."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ....demo.launcher.files import Problem, commit
from ...farm.records import Records
from .. import generate, score
from ..means import Score, by_subject, difference, interval
from ..plan import Plan
from ..protocol import Protocol


@dataclass(frozen=True)
class Part:
    """Scored folder of a report."""

    plan: Plan
    facts: dict[str, Any]
    scores: dict[str, list[Score]]


def parts(plans: Sequence[Plan], name: str | None) -> list[Part]:
    """Scored folders that belong in one table. Raises Problem for folders of different protocols or networks."""
    found = []
    for plan in plans:
        files = sorted((plan.folder / "scores").glob("*.json"))
        wanted = [file for file in files if name in (None, file.stem, file.stem.rpartition("-")[0])]
        if len(wanted) != 1:
            said = ", ".join(file.stem for file in files) or "none"
            raise Problem(
                f"Expected one set of scores in {plan.folder / 'scores'}, got {said}: run `run.py evaluate score`, or "
                "name one of them with --preset."
            )
        found.append(Part(plan, *score.read(wanted[0])))
    for part in found[1:]:
        for what, here, there in (
            ("drawn by the protocol", part.plan.protocol.title, found[0].plan.protocol.title),
            ("scored by the protocol", part.facts["title"], found[0].facts["title"]),
            ("scored with the networks", part.facts["networks"], found[0].facts["networks"]),
        ):
            if here != there:
                raise Problem(
                    f"{part.plan.folder} was {what} {here}, and {found[0].plan.folder} {there}: their numbers do not "
                    "compare, so report them apart."
                )
    names = [row for part in found for row in part.plan.rows]
    if twice := sorted({row for row in names if names.count(row) > 1}):
        raise Problem(f"The row {', '.join(twice)} is in two folders: report them apart, or give it another name.")
    return found


def summary(found: Sequence[Part], against: str | None = None) -> dict[str, Any]:
    """Content of result.json. against: row that the others are compared with; the first if none is named."""
    protocol = Protocol(found[0].facts["protocol"])
    metrics = found[0].facts["metrics"]
    rows = [row for part in found for row in part.plan.rows]
    if against is not None and against not in rows:
        raise Problem(f"There is no row {against} to compare with: use one of {', '.join(rows)}.")
    scores = {
        name: [one for part in found for one in part.scores[name] if one.row != score.PHOTOS or part is found[0]]
        for name in metrics
    }
    order, base = protocol.facts["order"], against or rows[0]
    of = {(name, row): [s for s in scores[name] if s.row == row] for name in metrics for row in (score.PHOTOS, *rows)}
    return {
        "drawn": found[0].plan.protocol.title,
        "scored": found[0].facts["title"],
        "order": order,
        "compare": protocol.facts["compare"],
        "metrics": metrics,
        "axes": list(protocol.axes),
        "networks": found[0].facts["networks"],
        "sampling": found[0].plan.protocol.sampling,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "photos": {name: interval(by_subject(of[name, score.PHOTOS], order)) for name in metrics},
        "rows": [_row(part, row, of, metrics, order) for part in found for row in part.plan.rows],
        "against": base,
        "differences": [
            {"row": row, "metric": name, **vars(gain)}
            for row in rows
            if row != base
            for name in metrics
            if (gain := difference(of[name, row], of[name, base], order)) is not None
        ],
        "subjects": {
            name: {row: {s: v for s, (v, _) in by_subject(of[name, row], order).items()} for row in rows}
            for name in metrics
        },
        "centers": [place for part in found for place in part.facts["centers"]],
        "map": [place for part in found for place in part.facts["map"] if place[0] != score.PHOTOS or part is found[0]],
    }


def _row(
    part: Part, name: str, of: Mapping[tuple[str, str], list[Score]], metrics: Sequence[str], order: str
) -> dict[str, Any]:
    row, survey, plan = part.plan.rows[name], Records(part.plan.folder).survey(), part.plan
    jobs = [(job, plan.key(job)) for job in plan.jobs() if job.row == name]
    found = [record for job, key in jobs if (record := survey.record(job.name, key))]
    failed = sum(1 for job, key in jobs if survey.error(job.name, key))
    copies = part.facts["copies"]
    copied = [s.copied for s in of[copies, name] if s.copied is not None] if copies else []
    return {
        "name": name,
        "method": row.template.name,
        "dial": row.dial,
        "pictures": len(found),
        "planned": len(jobs),
        "failed": failed,
        "seconds": round(statistics.median(r["seconds"] for r in found), 3) if found else None,
        "devices": sorted({record["device"] for record in found}),
        "copied": float(np.mean(copied)) if copied else None,
        "metrics": {
            metric: {
                "interval": interval(by_subject(of[metric, name], order)),
                "without_input": interval(by_subject([replace(s, value=s.others) for s in of[metric, name]], order)),
                "left_out": sum(1 for s in of[metric, name] if not np.isfinite(s.value)),
            }
            for metric in metrics
        },
    }


def left(plan: Plan) -> str:
    """Sentence on pictures that are still to be drawn; empty if there are none."""
    state = generate.state(plan)
    return f"{len(state.todo)} of {state.total} pictures are still to be drawn." if state.todo else ""


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Rows that no other row beats on both axes, from left to right."""
    best = [
        name
        for name, (x, y) in points.items()
        if not any((u >= x and v >= y and (u, v) != (x, y)) for u, v in points.values())
    ]
    return sorted(best, key=lambda name: points[name])
