"""Markdown page of a report: the tables without the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .page import shown


def markdown(summary: Mapping[str, Any]) -> str:
    """Text of report.md."""
    metrics = summary["metrics"]
    lines = [
        [
            row["name"],
            *(shown(row["metrics"][metric]["interval"]) for metric in metrics),
            "-" if row["copied"] is None else f"{row['copied']:.0%}",
            f"{row['pictures']} of {row['planned']}",
            str(row["failed"]),
            str(sum(row["metrics"][metric]["left_out"] for metric in metrics)),
        ]
        for row in summary["rows"]
    ]
    if any(summary["photos"].values()):
        lines.append(["photos against each other", *(shown(summary["photos"][m]) for m in metrics), *["-"] * 4])
    gains = [
        [one["row"], one["metric"], shown(one["interval"]), f"{one['rising']:.0%}", str(one["pairs"])]
        for one in summary["differences"]
    ]
    parts = [
        f"# Evaluation: {summary['scored']}",
        f"Drawn by the protocol {summary['drawn']}, scored by {summary['scored']}; commit {summary['commit']}, "
        f"{summary['date']}. Means with 95 % bootstrap intervals over subjects.",
        _table(["", *metrics, "copied", "pictures", "failed", "left out"], lines),
    ]
    if gains:
        parts += [
            f"Differences from {summary['against']} on the pictures of the same subject, prompt and seed:",
            _table(["", "metric", "difference", "subjects that rise", "pairs"], gains),
        ]
    parts.append("\n".join(f"* {metric}: {key}" for metric, key in summary["networks"].items()))
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    rows = ["| " + " | ".join(line) + " |" for line in (heads, *lines)]
    return "\n".join([rows[0], "|" + "---|" * len(heads), *rows[1:]])
