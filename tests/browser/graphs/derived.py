"""Groups of a graph that is given in API format alone: by what each node is for, and by which nodes it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .layout import Group

MODELS, PROMPT, SUBJECT, LAYOUT, DRAW, RESULT = "Models", "Prompt", "Subject", "Layout", "Draw", "Result"
ORDER = (MODELS, PROMPT, SUBJECT, LAYOUT, DRAW, RESULT)
_KINDS = {
    MODELS: (
        "CheckpointLoaderSimple",
        "LikenessDemoJointModel",
        "LikenessDemoModel",
        "LikenessDemoSubject",
        "LikenessDemoTransformer",
        "LikenessJointCheckpoint",
        "LikenessLoadJointCheckpoint",
        "LoraLoader",
    ),
    PROMPT: (
        "CLIPTextEncode",
        "EmptyLatentImage",
        "LikenessPromptList",
        "LikenessSubjectPrompt",
        "PrimitiveInt",
        "PrimitiveString",
        "PrimitiveStringMultiline",
    ),
    SUBJECT: (
        "AppearancePalette",
        "ImageFromBatch",
        "LikenessLoadPalette",
        "LikenessLoadReference",
        "LikenessReference",
        "LikenessSubject",
        "LoadImage",
        "LoadImageMask",
    ),
    LAYOUT: (
        "AdaptiveMask",
        "LayoutTemplate",
        "LikenessLoadTemplate",
        "LikenessLoadTrajectory",
        "StepBlendedSampler",
    ),
    RESULT: (
        "LikenessLossCurves",
        "LikenessSavePalette",
        "LikenessSaveReference",
        "LikenessSaveTemplate",
        "LikenessSaveTrajectory",
        "MaskPreview",
        "MaskToImage",
        "PreviewAny",
        "PreviewImage",
        "SaveImage",
        "VAEDecode",
    ),
}
GROUP_OF = {kind: title for title, kinds in _KINDS.items() for kind in kinds}
TALLEST = 1100
"""Pixels of a column of results before another one begins."""


def needs(prompt: Mapping[str, Any]) -> dict[str, list[str]]:
    """The nodes that each node is linked to, by id."""
    return {
        name: list(dict.fromkeys(value[0] for value in node["inputs"].values() if isinstance(value, list)))
        for name, node in prompt.items()
    }


def _sorted(needed: Mapping[str, list[str]]) -> list[str]:
    """Ids in an order in which every node follows those it needs, otherwise as given."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        for before in needed[name]:
            visit(before)
        done.setdefault(name)

    for name in needed:
        visit(name)
    return list(done)


def titles(prompt: Mapping[str, Any]) -> dict[str, str]:
    """The group of each node: its kind's, or a later one if it needs a node of that one.

    A picture that other nodes need is no result, and belongs to the group that made it.
    """
    needed = needs(prompt)
    ordered = _sorted(needed)
    own = {name: GROUP_OF.get(prompt[name]["class_type"], DRAW) for name in ordered}
    shown = {name: own[name] == RESULT for name in ordered}
    for name in reversed(ordered):
        for one in needed[name]:
            shown[one] = shown[one] and shown[name]
    ranks: dict[str, int] = {}
    for name in ordered:
        before = max((ranks[one] for one in needed[name]), default=0)
        ranks[name] = before if own[name] == RESULT and not shown[name] else max(before, ORDER.index(own[name]))
    return {name: ORDER[rank] for name, rank in ranks.items()}


def groups(prompt: Mapping[str, Any], rooms: Mapping[str, float]) -> list[Group]:
    """Groups from left to right, each in as few columns as its links allow. rooms: height of each node."""
    needed, title_of = needs(prompt), titles(prompt)
    made: list[Group] = []
    first = 0
    for title in ORDER:
        names = [name for name in _sorted(needed) if title_of[name] == title]
        if names:
            made.append(Group(title, first, _columns(names, needed, rooms)))
            first += len(made[-1].columns)
    return made


def _columns(names: list[str], needed: Mapping[str, list[str]], rooms: Mapping[str, float]) -> list[list[str]]:
    """Columns in which every link leads to the right, or to the next node below."""
    chains = _chains(names, needed)
    chain_of = {name: index for index, chain in enumerate(chains) for name in chain}
    ranks: list[int] = [0] * len(chains)
    for name in names:
        own = chain_of[name]
        ranks[own] = max(
            [
                ranks[own],
                *(ranks[chain_of[one]] + 1 for one in needed[name] if one in chain_of and chain_of[one] != own),
            ]
        )
    columns: list[list[str]] = []
    for rank in range(max(ranks) + 1):
        height = TALLEST + 1.0
        for chain in (chain for chain, its in zip(chains, ranks, strict=True) if its == rank):
            more = sum(rooms[name] for name in chain)
            if height + more > TALLEST:
                columns.append([])
                height = 0.0
            columns[-1] += chain
            height += more
    return columns


def _chains(names: Iterable[str], needed: Mapping[str, list[str]]) -> list[list[str]]:
    """Nodes that follow each other alone, in one list."""
    inside = list(names)
    before = {name: [one for one in needed[name] if one in inside] for name in inside}
    chains: list[list[str]] = []
    for name in inside:
        link = before[name][0] if len(before[name]) == 1 else None
        alone = link is not None and sum(link in others for others in before.values()) == 1
        if alone and (chain := next((one for one in chains if one[-1] == link), None)):
            chain.append(name)
        else:
            chains.append([name])
    return chains
