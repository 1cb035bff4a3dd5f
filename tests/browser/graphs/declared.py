"""Graphs declared as columns of nodes, from which both formats of a workflow are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .layout import Group


class Link(NamedTuple):
    """An output of a node."""

    node: Node
    slot: int


@dataclass(eq=False)
class Node:
    """A node with the inputs that differ from its defaults: constants, and links to other nodes.

    shown: least width and height on the canvas, where its kind's do not suit.
    models: files that it loads, with the address of each, as the front end offers them for download.
    inside: nodes that it holds, if it is a closed subgraph; it has no kind then.
    """

    kind: str
    title: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    shown: tuple[int, int] = (0, 0)
    models: list[dict[str, str]] = field(default_factory=list)
    inside: list[Node] = field(default_factory=list)

    def __getitem__(self, slot: int) -> Link:
        return Link(self, slot)


def node(kind: str, title: str = "", shown: tuple[int, int] = (0, 0), /, **inputs: Any) -> Node:
    """A node without files; inputs of None are left out."""
    kept = {name: value for name, value in inputs.items() if value is not None}
    return Node(kind, title, kept, shown)


@dataclass
class Graph:
    """A workflow: its name, what it is for, and its columns from left to right, each of titled groups."""

    name: str
    note: str
    columns: Sequence[Mapping[str, Sequence[Node]]]

    def nodes(self) -> Iterator[Node]:
        """Every node, column by column, those of a subgraph in its place."""
        for found in self._shown():
            yield from found.inside or [found]

    def folded(self) -> Node | None:
        """The closed subgraph, if there is one."""
        return next((found for found in self._shown() if found.inside), None)

    def groups(self) -> list[Group]:
        """The groups as the layout wants them, of ids."""
        ids = self.ids()
        return [
            Group(title, first, [[ids[found] for found in nodes]])
            for first, column in enumerate(self.columns)
            for title, nodes in column.items()
        ]

    def ids(self) -> dict[Node, str]:
        """Identifiers, counted from 1 in the order of the columns; the subgraph has the last one."""
        ids = {found: str(number) for number, found in enumerate(self.nodes(), 1)}
        folded = self.folded()
        return ids | ({folded: str(len(ids) + 1)} if folded else {})

    def flat(self, object_info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The graph in API format without its subgraph, with the default of every widget that it does not set."""
        return self._api(object_info, self.ids())

    def api(self, object_info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The graph in API format, where ids of a subgraph's nodes begin with its own."""
        ids, folded = self.ids(), self.folded()
        inside = {found: f"{ids[folded]}:{ids[found]}" for found in folded.inside} if folded else {}
        return self._api(object_info, ids | inside)

    def _shown(self) -> Iterator[Node]:
        for column in self.columns:
            for nodes in column.values():
                yield from nodes

    def _api(self, object_info: Mapping[str, Any], ids: Mapping[Node, str]) -> dict[str, dict[str, Any]]:
        return {
            ids[found]: {
                "class_type": found.kind,
                "inputs": _inputs(found, object_info[found.kind], ids),
                "_meta": {"title": found.title or object_info[found.kind]["display_name"] or found.kind},
            }
            for found in self.nodes()
        }


def _inputs(found: Node, info: Mapping[str, Any], ids: Mapping[Node, str]) -> dict[str, Any]:
    wanted = {
        name: [ids[value.node], value.slot] if isinstance(value, Link) else value
        for name, value in found.inputs.items()
    }
    known = info["input"].get("required", {}) | info["input"].get("optional", {})
    # A growing input is known by its template, and its members by template.name.
    if strange := [name for name in wanted if name.partition(".")[0] not in known]:
        raise ValueError(f"{found.kind} has no input {', '.join(strange)}")
    defaults = {name: default for name, spec in known.items() if (default := _default(spec)) is not None}
    widgets = {name: wanted.pop(name, default) for name, default in defaults.items()}
    return widgets | wanted


def _default(spec: list) -> Any:
    """What the front end puts into a fresh widget; None for an input that has no widget."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if options.get("forceInput"):
        return None
    if isinstance(kind, list):
        return options.get("default", kind[0] if kind else "")
    if kind == "COMBO":
        return options.get("default", (options.get("options") or [""])[0])
    return options.get("default", {"STRING": "", "BOOLEAN": False, "INT": 0, "FLOAT": 0.0}.get(kind))
