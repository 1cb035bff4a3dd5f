"""Lays the shipped workflows out again without a browser, after a change of sizes or of the layout.

COMFYUI_PATH=... python tests/browser/lay_out.py [NAME ...]
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likeness.tests.browser.graphs.frontend_graph import Plan

ROOT = Path(__file__).resolve().parents[2]


def plans() -> Iterator[Plan]:
    """The plan of every shipped workflow, from its API twin."""
    from likeness.tests import workflows
    from likeness.tests.browser import export_workflows
    from likeness.tests.browser.graphs import shipped
    from likeness.tests.browser.graphs.frontend_graph import Plan

    for name in workflows.NAMES:
        yield Plan(name, export_workflows.NOTES[name], workflows.api(name))
    for graph in shipped.shipped():
        ids, folded = graph.ids(), graph.folded()
        yield Plan(
            graph.name,
            graph.note,
            _flat(workflows.api(graph.name)),
            graph.groups(),
            shown={ids[found]: found.shown for found in graph.nodes()},
            folded=folded.title if folded else "",
            inside=[ids[found] for found in folded.inside] if folded else (),
        )


def laid_out(plan: Plan) -> dict[str, Any]:
    """The stored workflow in UI format with the layout that it would have now."""
    from likeness.tests import workflows
    from likeness.tests.browser.graphs import sizes, written

    graph, known = workflows.ui(plan.name), sizes.measured()
    room = {
        name: sizes.size(node["class_type"], known[_signature(node)], plan.shown.get(name, (0, 0)))
        for name, node in plan.prompt.items()
    }
    for node in graph["nodes"]:
        if plan.folded and node.get("title") == plan.folded:
            own = next(size for signature, size in known.items() if signature.startswith(f"{plan.folded}("))
            room[str(node["id"])] = sizes.size(plan.folded, own)
    return written.laid_out(graph | {"groups": [], "extra": {}}, plan, room)


def text(graph: Mapping[str, Any]) -> str:
    """The content of a workflow's file."""
    return json.dumps(graph, indent=1) + "\n"


def _signature(node: Mapping[str, Any]) -> str:
    from likeness.tests.browser.graphs import sizes

    return sizes.signature(node["class_type"], node["inputs"])


def _flat(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """A prompt whose ids are those of the nodes, without the subgraph around them."""

    def own(name: str) -> str:
        return name.rpartition(":")[2]

    def flat(value: Any) -> Any:
        return [own(value[0]), value[1]] if isinstance(value, list) else value

    return {
        own(name): {**node, "inputs": {key: flat(value) for key, value in node["inputs"].items()}}
        for name, node in prompt.items()
    }


def main(names: list[str]) -> None:
    runpy.run_path(str(ROOT / "demo" / "launcher" / "launch.py"))["alias_pack"](Path(os.environ["COMFYUI_PATH"]))
    from likeness.tests import workflows

    for plan in plans():
        if not names or plan.name in names:
            workflows.ui_file(plan.name).write_text(text(laid_out(plan)), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
