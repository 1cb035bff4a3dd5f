"""HTML page of a report: one file with its pictures inside, which works from the disk."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from ...farm.records import Records
from .. import subjects
from ..plan import Plan
from ..subjects import SLOT
from . import charts
from .summary import front

SIDE = 128
_TEMPLATE = Path(__file__).with_name("page.html")


def page(summary: Mapping[str, Any], plans: Sequence[Plan], projection: str) -> str:
    """Text of report.html. projection: name of the axes of the embeddings' map."""
    names = [row["name"] for row in summary["rows"]]
    parts = {
        "title": f"Evaluation: {escape(summary['scored'])}",
        "about": escape(_about(summary)),
        "scores": _scores(summary),
        "reading": escape(_reading(summary)),
        "others": _without_input(summary),
        "against": escape(summary["against"]),
        "differences": _differences(summary),
        "pareto": _pareto(summary),
        "legend": "".join(f"<span>{_swatch(i)}{escape(name)}</span>" for i, name in enumerate(names)),
        "bars": "".join(
            f"<div>{escape(axis)}</div>{charts.bars(summary['subjects'][axis], names, axis)}"
            for axis in summary["axes"]
            if axis in summary["subjects"]
        ),
        "places": _section(
            "Places of the subjects, a color for each prompt", summary["centers"], charts.centers, names
        ),
        "map": _section(
            f"Map of the embeddings ({projection}), photos as rings", summary["map"], charts.embedding_map, names
        ),
        "settings": _settings(summary),
        "data": json.dumps({"rows": names, "subjects": _pictures(plans)}).replace("</", "<\\/"),
    }
    # In one pass, so that no content is searched for marks.
    return re.sub(r"@(\w+)@", lambda mark: parts[mark[1]], _TEMPLATE.read_text(encoding="utf-8"))


def _about(summary: Mapping[str, Any]) -> str:
    drawn = "" if summary["drawn"] == summary["scored"] else f" Drawn by the protocol {summary['drawn']}."
    return f"Scored by the protocol {summary['scored']}.{drawn} Commit {summary['commit']}, {summary['date']}."


def _reading(summary: Mapping[str, Any]) -> str:
    return (
        "Means with 95 % bootstrap intervals over subjects. Copied: share of pictures closer to a photo than 95 % of "
        "the pairs of the subject's photos are to each other. Left out: pictures without a score, such as those with "
        "an empty mask." + (" Identity includes the input photos." if summary["compare"] == "all" else "")
    )


def _swatch(index: int) -> str:
    return f'<i class="swatch" style="background:{charts.color_of(index)}"></i>'


def shown(interval: Sequence[float]) -> str:
    """Mean with the ends of its interval; a dash for none."""
    if not interval:
        return "-"
    return f"{interval[0]:.3f} [{interval[1]:.3f}, {interval[2]:.3f}]"


def _cell(value: object, text: str | None = None) -> str:
    return f'<td data-value="{escape(str(value))}">{text if text is not None else escape(str(value))}</td>'


def _interval_cell(interval: Sequence[float]) -> str:
    if not interval:
        return _cell("", "-")
    return _cell(interval[0], f"{interval[0]:.3f} <small>[{interval[1]:.3f}, {interval[2]:.3f}]</small>")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _table(heads: Iterable[str], lines: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody>"


def _scores(summary: Mapping[str, Any]) -> str:
    metrics = summary["metrics"]
    lines = []
    for i, row in enumerate(summary["rows"]):
        cells = [_cell(row["name"], _swatch(i) + escape(row["name"]))]
        cells += [_interval_cell(row["metrics"][metric]["interval"]) for metric in metrics]
        left_out = sum(row["metrics"][metric]["left_out"] for metric in metrics)
        seconds = row["seconds"]
        cells += [
            _cell(row["copied"] if row["copied"] is not None else "", _share(row["copied"])),
            _cell(row["pictures"], f"{row['pictures']} of {row['planned']}"),
            _cell(row["failed"]),
            _cell(left_out),
            _cell(seconds if seconds is not None else "", "-" if seconds is None else f"{seconds:.1f}"),
        ]
        lines.append("".join(cells))
    if any(summary["photos"].values()):
        oracle = "".join(_interval_cell(summary["photos"][metric]) for metric in metrics)
        lines.append(_cell("photos against each other") + oracle + _cell("", "-") * 5)
    return _table(["", *metrics, "copied", "pictures", "failed", "left out", "seconds"], lines)


def _without_input(summary: Mapping[str, Any]) -> str:
    """Second table, for protocols that compare with all photos: identity without the input photos."""
    known = [m for m in summary["metrics"] if any(row["metrics"][m]["without_input"] for row in summary["rows"])]
    if summary["compare"] != "all" or not known:
        return ""
    lines = [
        _cell(row["name"]) + "".join(_interval_cell(row["metrics"][metric]["without_input"]) for metric in known)
        for row in summary["rows"]
    ]
    table = f'<table class="sortable">{_table(["", *known], lines)}</table>'
    return f'<h2>Identity without the input photos</h2><div class="card">{table}</div>'


def _differences(summary: Mapping[str, Any]) -> str:
    if not summary["differences"]:
        return "There is one row only."
    lines = [
        _cell(one["row"])
        + _cell(one["metric"])
        + _interval_cell(one["interval"])
        + _cell(one["rising"], _share(one["rising"]))
        + _cell(one["pairs"])
        for one in summary["differences"]
    ]
    heads = ["", "metric", "paired difference", "subjects that rise", "pairs"]
    return f'<table class="sortable">{_table(heads, lines)}</table>'


def _pareto(summary: Mapping[str, Any]) -> str:
    first, second = summary["axes"]
    points = {
        row["name"]: (row["metrics"][first]["interval"], row["metrics"][second]["interval"])
        for row in summary["rows"]
        if {first, second} <= row["metrics"].keys()
        and row["metrics"][first]["interval"]
        and row["metrics"][second]["interval"]
    }
    if not points:
        return f"{escape(first)} and {escape(second)} were not both scored."
    lines: dict[str, list[str]] = {}
    for row in sorted(summary["rows"], key=lambda one: one["dial"] or 0.0):
        if row["name"] in points:
            lines.setdefault(row["method"], []).append(row["name"])
    best = front({name: (x[0], y[0]) for name, (x, y) in points.items()})
    return charts.pareto(points, lines, best, (first, second))


def _section(title: str, places: list, draw: Any, names: list[str]) -> str:
    return f'<h2>{escape(title)}</h2><div class="card">{draw(places, names)}</div>' if places else ""


def _settings(summary: Mapping[str, Any]) -> str:
    lines = [("drawn by", summary["drawn"]), ("scored by", summary["scored"]), ("order of means", summary["order"])]
    lines += [("compared with", summary["compare"]), *summary["sampling"].items()]
    lines += [(f"network of {metric}", key) for metric, key in summary["networks"].items()]
    devices = sorted({device for row in summary["rows"] for device in row["devices"]})
    lines.append(("device", ", ".join(devices)))
    return "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in lines)


def _pictures(plans: Sequence[Plan]) -> dict[str, Any]:
    """Photos, prompts and the first picture of every prompt and row, of each subject."""
    found: dict[str, Any] = {}
    for plan in plans:
        records = Records(plan.folder)
        survey = records.survey()
        for name, subject in plan.subjects.items():
            prompts = [prompt.replace(SLOT, subject.noun) for prompt in plan.prompts(name)]
            photos = [_thumbnail(Path(photo.file)) for photo in subject.photos if Path(photo.file).is_file()]
            found.setdefault(name, {"prompts": prompts, "photos": photos, "cells": {}})
        for job in plan.jobs():
            cells = found[job.subject]["cells"].setdefault(job.row, {})
            if job.prompt not in cells and survey.record(job.name, plan.key(job)):
                cells[job.prompt] = _thumbnail(records.picture(job.name))
    return found


def _thumbnail(path: Path) -> str:
    """Data address of a small WebP picture."""
    picture = subjects.opened(path)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, format="WEBP", quality=82)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
