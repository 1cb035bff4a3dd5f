"""The front end's app mode of a workflow: the widgets and the results that it shows without the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBERED = ("0", "1", "2", "3", "4")
"""First characters of the workflows that have an app mode."""
_PROMPTS = {"LikenessSubjectPrompt": ("text", "token"), "LikenessPromptList": ("prefix", "text")}
_PHOTOS = {"LoadImage": ("image",), "LikenessDemoSubject": ("subject",)}
_LIKENESS = {"LikenessSampler": ("likeness",), "JointImageSampler": ("strength",)}


def extra(name: str, prompt: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `extra` of a workflow's UI format. prompt: its API format, whose ids are those of the nodes."""
    if not name.startswith(_NUMBERED):
        return {}
    inputs = [
        [int(node), widget]
        for shown in (_PROMPTS, _PHOTOS, _LIKENESS)
        for node, entry in prompt.items()
        for widget in shown.get(entry["class_type"], ())
        # Without a LoRA there are no learned words.
        if not isinstance(entry["inputs"][widget], list) and (widget != "token" or entry["inputs"][widget])
    ]
    outputs = [int(node) for node, entry in prompt.items() if entry["class_type"] == "SaveImage"]
    return {"linearData": {"inputs": inputs, "outputs": outputs}}
