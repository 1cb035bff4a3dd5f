"""Pictures of the help pages as rows of panels. Standard library alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Panel:
    """One picture of a row. shown: "NODE" or "NODE.OUTPUT" of the workflow; changes: {"NODE.INPUT": value}.

    batch: pictures of its empty latents. picture: which one of the node's pictures is shown. added: further nodes, in
    API format. part: of the file that the shown node writes (`help_parts.py`). score: "NODE.OUTPUT" of numbers, whose
    own one is the label.
    """

    workflow: str
    shown: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    picture: int = 0
    batch: int = 1
    label: str = ""
    added: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    part: str = ""
    score: str = ""


@dataclass(frozen=True)
class Picture:
    """One file: a row of panels and the sentence under it. dial: the input that its panels vary, else empty.

    first: panels whose graphs run before, since they write files that the row's own graph loads.
    """

    file: str
    caption: str
    panels: tuple[Panel, ...]
    dial: str = ""
    first: tuple[Panel, ...] = ()


def row(name: str, caption: str, *panels: Panel, first: tuple[Panel, ...] = ()) -> Picture:
    """The first picture of a node: what goes in, without the node, with the node."""
    return Picture(f"{name}.webp", caption, panels, first=first)


def dial(name: str, workflow: str, shown: str, entry: str, values: Sequence[Any], caption: str = "", **more) -> Picture:
    """A row over one input; each panel has its value for a label. more: changes of all panels."""
    changes = more.pop("changes", {})
    panels = [Panel(workflow, shown, {**changes, entry: value}, label=str(value), **more) for value in values]
    return Picture(f"{name}_dial.webp", caption, tuple(panels), entry.partition(".")[2])


def batch(workflow: str, shown: str, count: int, batch: int) -> tuple[Panel, ...]:
    """The first pictures of a batch."""
    return tuple(Panel(workflow, shown, picture=index, batch=batch) for index in range(count))
