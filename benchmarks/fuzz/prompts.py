"""Changes of API-format prompts: links, bypassed nodes, and what a result needs."""

from __future__ import annotations

import copy
from typing import Any

from ...demo.launcher.client import Prompt

Link = list[Any]


def is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def links_of(entry: dict[str, Any]) -> dict[str, Link]:
    """The linked inputs of a node."""
    return {name: value for name, value in entry["inputs"].items() if is_link(value)}


def bypassed(prompt: Prompt, nodes: list[str], passed: str = "model") -> Prompt:
    """The prompt without these nodes; each one's first output becomes its input `passed`.

    Whatever takes another output of them goes, too.
    """
    prompt = copy.deepcopy(prompt)
    for node in nodes:
        given = prompt[node]["inputs"][passed]
        for entry in prompt.values():
            for name, (source, output) in links_of(entry).items():
                if source == node and output == 0:
                    entry["inputs"][name] = given
                elif source == node:
                    del entry["inputs"][name]
    return needed(prompt)


def needed(prompt: Prompt) -> Prompt:
    """The nodes that lead to a FuzzResult, numbered anew: equal graphs become equal prompts."""
    order: dict[str, str] = {}

    def visit(node: str) -> None:
        if node in order:
            return
        for source, _ in links_of(prompt[node]).values():
            visit(source)
        order[node] = str(len(order) + 1)

    for node, entry in prompt.items():
        if entry["class_type"] == "FuzzResult":
            visit(node)
    return {new: renamed(prompt[old], order) for old, new in order.items()}


def ending_at(prompt: Prompt, node: str) -> Prompt:
    """The part of a prompt that makes a node's first output, which it shows as its only result."""
    results = nodes_of(prompt, "FuzzResult")
    kept = {name: entry for name, entry in prompt.items() if name not in results}
    return needed({**kept, "end": {"class_type": "FuzzResult", "inputs": {"latent": [node, 0]}}})


def ancestors(prompt: Prompt, node: str) -> set[str]:
    """A node and all that it needs."""
    seen, left = set[str](), [node]
    while left:
        if (here := left.pop()) in prompt and here not in seen:
            seen.add(here)
            left += [source for source, _ in links_of(prompt[here]).values()]
    return seen


def renamed(entry: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    inputs = {name: [names[v[0]], v[1]] if is_link(v) else v for name, v in entry["inputs"].items()}
    return {"class_type": entry["class_type"], "inputs": inputs}


def nodes_of(prompt: Prompt, *kinds: str) -> list[str]:
    return [node for node, entry in prompt.items() if entry["class_type"] in kinds]
