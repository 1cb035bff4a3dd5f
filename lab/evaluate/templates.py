"""Methods: workflows in API format whose node titles name the inputs that an evaluation fills in.

A title ends with its slots in brackets: "KSampler [seed=seed, steps=steps]" fills the inputs `seed` and `steps`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...demo.launcher.files import ROOT, Problem
from .separate import ENCODERS

FOLDER = ROOT / "workflows" / "evaluate"
SLOTS = {
    "checkpoint": "the file given with --checkpoint",
    "joint_checkpoint": "the file given with --joint-checkpoint",
    "network": "the file given with --network",
    **dict.fromkeys(ENCODERS, "a file given with --text-encoders"),
    "vae": "the file given with --vae",
    "lora": "the subject's file in --loras",
    "prompt": "the prompt with token and class: a sks dog in the snow",
    "class_prompt": "the prompt with the class alone: a dog in the snow",
    "embedding_prompt": "the prompt with the subject's textual inversion: a embedding:dog2 in the snow",
    "braced_prompt": "the prompt for Subject Prompt: a {dog} in the snow",
    "neutral_prompt": "a photo of a sks dog",
    "class_neutral_prompt": "a photo of a dog",
    "words": "token and class: sks dog",
    "class": "the class word: dog",
    "subject": "the name of the subject's folder",
    "reference": "an input photo of the subject",
    "reference_2": "another one",
    "reference_3": "another one",
    "reference_4": "another one",
    "seed": "the seed of the picture",
    "dial": "the strength of the method, given with --dials",
    **dict.fromkeys(
        ("width", "height", "steps", "cfg", "sampler", "scheduler", "negative"), "a setting of the protocol"
    ),
}
REFERENCES = ("reference", "reference_2", "reference_3", "reference_4")
PROMPTS = ("prompt", "class_prompt", "embedding_prompt", "braced_prompt")
RESULT = "result"
"""Word in the brackets of the node that shows the picture, where several show one."""
SHOWS = ("SaveImage", "PreviewImage")
"""Nodes that show pictures."""
Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Template:
    """Workflow of a method.

    slots: (node id, input, slot) of everything that is filled in. output: id of the node that shows the picture.
    """

    name: str
    graph: Graph
    slots: tuple[tuple[str, str, str], ...]
    output: str

    @property
    def names(self) -> set[str]:
        return {slot for _, _, slot in self.slots}

    @property
    def references(self) -> int:
        """Number of input photos that the method takes."""
        return len(self.names & set(REFERENCES))

    @property
    def dial(self) -> Any:
        """Strength that the workflow was saved with; None for a method without a dial."""
        return next((self.graph[node]["inputs"][name] for node, name, slot in self.slots if slot == "dial"), None)

    def filled(self, values: Mapping[str, Any]) -> Graph:
        """Graph without titles, its slots filled in."""
        graph = {
            key: {**{name: value for name, value in node.items() if name != "_meta"}, "inputs": {**node["inputs"]}}
            for key, node in self.graph.items()
        }
        for node, name, slot in self.slots:
            graph[node]["inputs"][name] = values[slot]
        return graph


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def is_own(name: str) -> bool:
    """True for the name of a user's file, False for that of a bundled template."""
    return name.endswith(".json")


def load(name: str) -> Template:
    """Bundled template of this name, or the workflow in a JSON file. Raises Problem."""
    path = Path(name).expanduser() if is_own(name) else FOLDER / f"{name}.json"
    if not path.is_file():
        raise Problem(f"There is no method {name}: use {', '.join(names())}, or a workflow saved in API format.")
    try:
        return parsed(path.stem, json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise Problem(f"The workflow {path} is not JSON ({error}): save it in API format.") from error


def parsed(name: str, graph: Any) -> Template:
    """Template of a graph in API format. Raises Problem for a graph that cannot be evaluated."""
    template = read(name, graph, SLOTS, "method")
    if "seed" not in template.names or not template.names & set(PROMPTS):
        raise Problem(
            f"The method {name} needs a slot for the seed and one of {', '.join(PROMPTS)}: write [seed=seed] and "
            "[text=prompt] at the end of the titles of its nodes."
        )
    return template


def read(name: str, graph: Any, known: Collection[str], what: str, kinds: Collection[str] = SHOWS) -> Template:
    """Template of a graph in API format with the slots `known`.

    what: noun of the graph in sentences. kinds: classes of nodes that show a result. Raises Problem for another format,
    an unknown slot, and a graph without one node that shows its result.
    """
    nodes = graph.values() if isinstance(graph, dict) else ()
    if not nodes or not all(isinstance(node, dict) and "class_type" in node and "inputs" in node for node in nodes):
        raise Problem(f"The {what} {name} is no workflow in API format: use Export (API) in ComfyUI's menu.")
    slots: list[tuple[str, str, str]] = []
    shows = {key for key, node in graph.items() if node["class_type"] in kinds}
    results = set()
    for key, node in graph.items():
        title = node.get("_meta", {}).get("title", "")
        found = re.search(r"\[([^\[\]]*)\]\s*$", title)
        for part in found[1].split(",") if found else ():
            left, equals, slot = (text.strip() for text in part.partition("="))
            if not equals and left == RESULT:
                results.add(key)
            elif slot not in known or left not in node["inputs"]:
                raise Problem(
                    f"The node '{title}' of the {what} {name} has the slot '{part.strip()}': write INPUT=SLOT with an "
                    f"input of {node['class_type']} and one of {', '.join(known)}."
                )
            else:
                slots.append((key, left, slot))
    chosen = results or shows
    if len(chosen) != 1:
        raise Problem(
            f"The {what} {name} has {len(chosen)} nodes that may show its picture: write [{RESULT}] at the end of the "
            "title of one Save Image node."
        )
    return Template(name, graph, tuple(slots), chosen.pop())
