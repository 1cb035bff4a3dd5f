"""The front end's app mode of a workflow: the widgets and the results that it shows without the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBERED = ("0", "1", "2", "3", "4")
"""First characters of the workflows that have an app mode."""
_PROMPTS = {"LikenessSubjectPrompt": ("text",), "LikenessPromptList": ("prefix", "text")}
_PHOTOS = {"LoadImage": ("image",)}
_DEMO_PHOTOS = {"LikenessDemoSubject": ("subject",)}
_LIKENESS = {"LikenessSampler": ("likeness",), "JointImageSampler": ("strength",)}


def extra(name: str, prompt: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `extra` of a workflow's UI format. prompt: its API format, whose ids are those of the nodes."""
    if not name.startswith(_NUMBERED):
        return {}
    subjects = [entry for entry in prompt.values() if entry["class_type"] in _DEMO_PHOTOS]
    # Two nodes that must have one subject cannot be changed by one widget.
    photos = _PHOTOS | (_DEMO_PHOTOS if len(subjects) == 1 else {})
    inputs = [
        [int(node), widget]
        for shown in (_PROMPTS, photos, _LIKENESS)
        for node, entry in prompt.items()
        for widget in shown.get(entry["class_type"], ())
        if not isinstance(entry["inputs"][widget], list)
    ]
    outputs = [int(node) for node, entry in prompt.items() if entry["class_type"] == "SaveImage"]
    return {"linearData": {"inputs": inputs, "outputs": outputs}}
