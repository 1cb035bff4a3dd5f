"""Sheet of a data set: sampled sets with the instances that were dropped and why, and the counts of all shards."""

from __future__ import annotations

import html
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from ...demo.launcher.files import Problem, read_json
from ..farm.records import whole
from .plan import Plan

OBJECTS = 20
"""Objects on the sheet, those first that lost the largest share of their sets."""
_STYLE = """
body { font: 14px/1.4 sans-serif; margin: 2em auto; max-width: 1200px; color: #222 }
section { border-top: 1px solid #ccc; padding: 1em 0 } h2 { font-size: 15px; margin: 0 0 .5em }
figure { display: inline-block; margin: 0 8px 8px 0; vertical-align: top; max-width: 170px } img { display: block }
.cut img { background: repeating-conic-gradient(#ddd 0 25%, #fff 0 50%) 0 / 16px 16px } figcaption { font-size: 12px }
.dropped { color: #a00 } .dropped img { outline: 2px solid #a00 } td { padding: 2px 12px 2px 0 }
"""


def write(plan: Plan, count: int = 40) -> Path:
    """Writes show.html with `count` sampled sets. Raises Problem where nothing is made yet."""
    paths = sorted((plan.folder / "samples").glob("*.json"))
    if not paths:
        raise Problem(f"There are no sets in {plan.folder} yet: make some with `run.py s3 make {plan.folder}`.")
    chosen = sorted(Random(0).sample(paths, min(count, len(paths))))
    samples = [json.loads(path.read_text(encoding="utf-8")) for path in chosen]
    path = plan.folder / "show.html"
    whole(path, page(samples, totals(plan), plan).encode())
    return path.resolve()


def totals(plan: Plan) -> dict[str, Any]:
    """Counts over the finished shards: sets, instances, reasons of dropped sets, and the objects that lost most."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    planned: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for number in plan.finished():
        facts = read_json(plan.shard(number).with_suffix(".json"))
        counts.update({"sets": facts.get("sets", 0), **facts.get("counts", {})})
        counts["dropped sets"] += len(facts.get("dropped", ()))
        reasons.update(_kind(one["dropped"]) for one in facts.get("dropped", ()))
        planned.update(row.thing for row in plan.rows(number))
        lost.update(one["object"] for one in facts.get("dropped", ()))
    share = {thing: lost[thing] / planned[thing] for thing in lost}
    worst = sorted(share, key=lambda thing: (-share[thing], thing))[:OBJECTS]
    return {
        "counts": dict(counts),
        "reasons": dict(reasons.most_common(10)),
        "objects": {thing: f"{lost[thing]} of {planned[thing]} sets dropped" for thing in worst},
    }


def _kind(reason: str) -> str:
    """Reason without what is its set's alone."""
    return reason.partition(":")[0]


def page(samples: list[dict[str, Any]], total: dict[str, Any], plan: Plan) -> str:
    """HTML of the sheet, which needs no other file."""
    rows = [*total["counts"].items(), *total["reasons"].items(), *total["objects"].items()]
    table = "".join(f"<tr><td>{_text(name)}</td><td>{_text(number)}</td></tr>" for name, number in rows)
    threshold = plan.stage("filter")
    head = (
        f"{len(plan.finished())} of {plan.shards} shards; filter {threshold['network']} at {threshold['threshold']:g}"
    )
    parts = "".join(_section(sample) for sample in samples)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>S3</title><style>{_STYLE}</style>'
        f"<h1>S3: {len(samples)} sampled sets</h1><p>{_text(head)}</p><table>{table}</table>{parts}</html>\n"
    )


def _section(sample: dict[str, Any]) -> str:
    figures = [_figure(sample["collage_shown"], sample["prompt"])] if sample["collage_shown"] else []
    for facts, shown in zip(sample["instances"], sample["cuts_shown"], strict=True):
        near = f"similarity {facts['similarity']:.3f}" if "similarity" in facts else ""
        dropped = facts.get("dropped", "")
        figures.append(_figure(shown, dropped or near, "cut dropped" if dropped else "cut"))
    for facts, shown, caption in zip(sample["members"], sample["members_shown"], sample["captions"], strict=True):
        style = f" ({facts['style']})" if "style" in facts else ""
        figures.append(_figure(shown, caption + style))
    why = f' <span class="dropped">dropped: {_text(sample["dropped"])}</span>' if "dropped" in sample else ""
    return f"<section><h2>{_text(sample['id'])} {_text(sample['object'])}{why}</h2>{''.join(figures)}</section>"


def _figure(shown: str, text: str, kind: str = "") -> str:
    image = f'<img src="data:image/webp;base64,{shown}" alt="">'
    return f'<figure class="{kind}">{image}<figcaption>{_text(text)}</figcaption></figure>'


def _text(value: Any) -> str:
    return html.escape(str(value))
