"""Sizes of nodes, measured in both renderers of the real front end, and the room that each gets in a graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import after_run as after
from .layout import Size

FILE = Path(__file__).with_name("sizes.json")
CHOICES = ("attention", "guidance", "lambdas_by", "layout", "method", "source", "switch_by")
"""Widgets that hide or show others."""
LEAST = {
    "CLIPTextEncode": (320, 110),
    "LikenessLossCurves": (420, 320),
    "LikenessPromptList": (340, 232),
    "LikenessSubject": (340, 240),
    "LikenessSubjectPrompt": (340, 220),
    "LoadImage": (300, 306),
    "LoadImageMask": (300, 306),
    "MaskPreview": (320, 300),
    "PreviewAny": (320, 130),
    "PreviewImage": (320, 300),
    "SaveImage": (320, 320),
}
"""Width and height of nodes that show a picture or a text, at least."""
ANY = (300, 0)
"""The same of any other node."""
PICTURED = (
    "AdaptiveMask",
    "AppearancePalette",
    "LayoutTemplate",
    "LikenessAttentionMaps",
    "LikenessCorrespondence",
    "LikenessKeepBest",
    "LikenessLayerProbe",
    "LikenessSegment",
)
"""Nodes that show a picture of theirs below their widgets after a run."""
PICTURE = 190
"""Height of that picture in a new node, which grows where it needs more."""
SAMPLERS = ("JointImageSampler", "KSampler", "LikenessSampler", "SamplerCustomAdvanced", "StepBlendedSampler")
PREVIEW = 200
"""Height of the preview that a sampler shows below its widgets while it draws."""


def signature(kind: str, inputs: Mapping[str, Any]) -> str:
    """Names everything that a node's size depends on. inputs: those of its API format."""
    linked = sorted(name for name, value in inputs.items() if isinstance(value, list))
    chosen = sorted(f"{name}={inputs[name]}" for name in CHOICES if isinstance(inputs.get(name), str))
    return f"{kind}({', '.join(linked + chosen)})"


def measured() -> dict[str, list[float]]:
    """Classic width, classic height and height in Nodes 2.0 by signature, as they were measured last."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def size(kind: str, own: list[float], shown: tuple[float, float] = (0, 0)) -> Size:
    """The size of a node in a graph. own: its measured one. shown: another least size that the graph declares."""
    width, height, _ = own
    least = [max(pair) for pair in zip(LEAST.get(kind, ANY), shown, strict=True)]
    height = max(height + PICTURE * (kind in PICTURED), least[1])
    room = max(height, after_run(kind, own)) + PREVIEW * (kind in SAMPLERS)
    return Size(max(width, least[0], 340 * (kind in PICTURED)), height, room)


def after_run(kind: str, own: list[float]) -> float:
    """The height that a node needs with all that a run shows on it, in either renderer."""
    return max(own[1:]) + after.height(kind)
