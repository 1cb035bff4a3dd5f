"""Builds a prompt from drawn choices, with every widget at a value that its schema allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from ...demo.launcher.client import Prompt
from .prompts import Link, is_link

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]

TEXTS = (
    "a photo of a sks fish on the grass",
    "a photo of a fish",
    "a photo of a red fish in the snow and a car",
    "(fish:1.4) in the sea",
    "a photo of a sks fish, embedding:nemo",
    "",
    "fish " * 40,
    "a photo of {a fish}",
    "({a fish}:1.3) and {a car}",
)
BRACED = "a photo of a {fish} on the grass"
WORDS = ("fish", "sks fish", "Fish", "photo", "car", "fish car", "fi", "", "xyz")
BLOCKS = (
    "paper",
    "all",
    "decoder",
    "middle0",
    "output3-5",
    "output3, output4",
    "encoder",
    "input1",
    "input4",
    "",
    "output99",
    "nonsense",
)
BOXES = ("", "8,8,40,40", "0,0,64,64", "40,40,8,8", "8,8", "a,b,c,d", "8,8,40,4000")
COSTLY = ("steps", "width", "height", "count", "noise_levels", "size", "inversion_steps")
"""Widgets whose defaults take too long here; a scene sets them."""
_STRINGS = {
    "word": WORDS,
    "text": TEXTS,
    "boxes": BOXES,
    "token": ("", "sks fish", "a sks fish", "embedding:nemo", "{"),
    "prefix": ("", "a photo of a fish"),
    "scene": ("", "at night"),
}


class Builder:
    """Prompt under construction. Equal nodes are made once, as users share them."""

    def __init__(self, draw: Draw, schemas: dict[str, Any]):
        self.draw, self.schemas = draw, schemas
        self.prompt: Prompt = {}
        self.common: dict[str, Any] = {}
        """Values of all widgets of these names, since a workflow agrees on its steps."""

    def one_of(self, *values: T) -> T:
        """One of the values; the first is the simplest."""
        return self.draw(st.sampled_from(values))

    def maybe(self) -> bool:
        return self.draw(st.booleans())

    def rarely(self) -> bool:
        return self.draw(st.integers(0, 7)) == 7

    def seldom(self) -> bool:
        return self.draw(st.integers(0, 2)) == 2

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def add(self, kind: str, **inputs: Any) -> Link:
        """Adds a node, with the schema's default for each widget not given."""
        entry = {"class_type": kind, "inputs": self._defaults(kind) | inputs}
        for node, known in self.prompt.items():
            if known == entry:
                return [node, 0]
        node = str(len(self.prompt) + 1)
        self.prompt[node] = entry
        return [node, 0]

    def _defaults(self, kind: str) -> dict[str, Any]:
        found = {}
        for name, (type_, options) in widgets_of(self.schemas[kind]).items():
            if name in self.common:
                found[name] = self.common[name]
            elif "default" in options:
                found[name] = options["default"]
            elif isinstance(type_, list):
                found[name] = type_[0]
        return found

    def change(self, nodes: Sequence[str]) -> None:
        """Gives another value to one widget of one of these nodes."""
        places = [
            (node, name)
            for node in nodes
            for name in widgets_of(self.schemas[self.prompt[node]["class_type"]])
            if name not in COSTLY and not is_link(self.prompt[node]["inputs"].get(name))
        ]
        if places:
            node, name = self.one_of(*places)
            type_, options = widgets_of(self.schemas[self.prompt[node]["class_type"]])[name]
            self.prompt[node]["inputs"][name] = self.draw(values(name, type_, options))


def families_of(schemas: dict[str, Any]) -> tuple[str, ...]:
    """The families of FuzzModel that the host has."""
    return tuple(schemas["FuzzModel"]["input"]["required"]["family"][0])


def widgets_of(schema: dict[str, Any]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Type and options of each widget; the type of a choice is the list of its values."""
    found = {}
    for part in ("required", "optional"):
        for name, (type_, *rest) in schema["input"].get(part, {}).items():
            options = rest[0] if rest else {}
            if type_ == "COMBO":
                type_ = options.get("options", [])
            if isinstance(type_, list) or type_ in ("INT", "FLOAT", "STRING", "BOOLEAN"):
                found[name] = (type_, options)
    return found


def sockets(schema: dict[str, Any]) -> dict[str, tuple[Any, bool]]:
    """Type of each input, and True where the host requires it. A growing input has one for each of its numbers."""
    found: dict[str, tuple[Any, bool]] = {}
    for part in ("required", "optional"):
        for name, (type_, *rest) in schema["input"].get(part, {}).items():
            if type_ != "COMFY_AUTOGROW_V3":
                found[name] = (type_, part == "required")
                continue
            template = rest[0]["template"]
            ((needed, one),) = [(kind == "required", one) for kind, one in template["input"].items() if one]
            ((type_, *_),) = one.values()
            for i in range(template["max"]):
                found[f"{name}.{template['prefix']}{i}"] = (type_, needed and i < template.get("min", 0))
    return found


def values(name: str, type_: Any, options: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a widget: allowed ones, its ends, and rarely one just outside of them."""
    if isinstance(type_, list):
        return st.sampled_from(type_ or ["nothing"])
    if type_ == "BOOLEAN":
        return st.booleans()
    if type_ == "STRING":
        pool = _STRINGS.get(name) or (BLOCKS if "blocks" in name else TEXTS)
        return st.sampled_from(pool)
    low, high = options.get("min", 0), options.get("max", 10)
    if type_ == "INT":
        near = [v for v in (0, 1, 2, 3, 4, 5, 7) if low <= v <= high]
        allowed = sorted({low, *near, options.get("default", low), min(high, 12)})
        return st.sampled_from([*allowed, *allowed] + ([] if "seed" in name else [low - 1]))
    near = [v for v in (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0) if low <= v <= high]
    allowed = sorted({float(low), *near, float(high)})
    return st.sampled_from([*allowed, *allowed, low - 0.1])
