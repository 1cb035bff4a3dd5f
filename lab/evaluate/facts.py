"""Check of a protocol's JSON: each value that an evaluation reads, with one sentence for the first that is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ...demo.launcher.files import Problem
from ...patching.evaluation.judge import JUDGE
from ...patching.evaluation.masks import FILLS
from ...patching.evaluation.preprocessing import fitting
from ...patching.evaluation.weights import KNOWN

CHOICES = ("first", "each", "random")
COMPARED = ("all", "input", "others")
ORDERS = ("subjects", "images", "pairs")
TEXTS = ("class", "raw", "braces", "background")
EMBEDS = ("identity", "text")
KINDS = (*EMBEDS, "judge-prompt", "inception", "image-reward")
SAMPLING = ("width", "height", "steps", "cfg", "sampler", "scheduler", "negative", "seed")
_KEYS = ("name", "version", "prompts", "images_per_prompt", "inputs", "compare", "order", "sampling", "metrics")
_METRIC = ("kind", "model", "geometry", "text", "mask", "optional")


def check(facts: Any, where: str) -> None:
    """Raises Problem for a missing, unknown or wrong value. where: file of the protocol."""
    top = _Part(where, "", facts)
    top.has(_KEYS, ("about", "axes"))
    top.among("compare", COMPARED)
    top.among("order", ORDERS)
    for key in ("images_per_prompt", "version"):
        top.count(key)
    if not re.fullmatch(r"\w[\w.+-]*", str(facts["name"])):
        raise top.refused("name", "letters, digits, dots and dashes")
    inputs = top.part("inputs")
    inputs.has(("choice", "count"))
    inputs.among("choice", CHOICES)
    inputs.count("count")
    if inputs.facts["choice"] == "each" and inputs.facts["count"] != 1:
        raise inputs.refused("count", "1 with choice each")
    sampling = top.part("sampling")
    sampling.has(SAMPLING)
    for key in ("width", "height", "steps"):
        sampling.count(key)
    sampling.count("seed", least=0)
    sampling.kind("cfg", (int, float), "a number")
    for key in ("sampler", "scheduler", "negative"):
        sampling.kind(key, (str,), "a text")
    _check_prompts(top.part("prompts"))
    metrics = top.part("metrics")
    if not metrics.facts:
        raise top.refused("metrics", "at least one")
    for name in metrics.facts:
        _check_metric(metrics.part(name))
    axes = facts.get("axes", ["", ""])
    if not isinstance(axes, list) or len(axes) != 2 or not set(map(str, axes)) <= {*metrics.facts, ""}:
        raise top.refused("axes", "the names of two metrics")


def _check_prompts(prompts: _Part) -> None:
    prompts.has(("list",), ("object", "live", "count"))
    prompts.among("list", ("dreambench", "files"))
    if prompts.facts["list"] == "files":
        prompts.has(("list", "object", "live"), ("count",))
        for key in ("object", "live"):
            prompts.kind(key, (str,), "the name of a file")
    if "count" in prompts.facts:
        prompts.count("count")


def _check_metric(metric: _Part) -> None:
    metric.has(("kind",), _METRIC)
    metric.among("kind", KINDS)
    kind, model = metric.facts["kind"], metric.facts.get("model")
    if kind in EMBEDS or "model" in metric.facts:
        metric.has(("kind", "model"), _METRIC)
        metric.among("model", (*KNOWN, JUDGE))
        if kind in EMBEDS and model != JUDGE:
            metric.has(("kind", "model", "geometry"), _METRIC)
    elif kind == "judge-prompt":
        metric.has(("kind", "model"), _METRIC)
    if kind == "text":
        metric.among("model", [name for name, known in KNOWN.items() if known.reads_texts])
    if kind == "judge-prompt":
        metric.among("model", (JUDGE,))
    for key, options in (("geometry", fitting(str(model))), ("text", TEXTS)):
        if key in metric.facts:
            metric.among(key, options)
    if "optional" in metric.facts:
        metric.kind("optional", (bool,), "true or false")
    if "mask" in metric.facts:
        mask = metric.part("mask")
        mask.has(("fill", "crop"))
        mask.among("fill", FILLS)
        mask.kind("crop", (bool,), "true or false")


@dataclass(frozen=True)
class _Part:
    """Object of the JSON. name: its place, such as "metrics.dino"; empty for the whole."""

    where: str
    name: str
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.facts, dict):
            raise Problem(
                f"The protocol {self.where} has {self.name or 'a list or a value'}, expected an object: change it."
            )

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def refused(self, key: str, expected: str) -> Problem:
        return Problem(
            f"The protocol {self.where} has {self._path(key)} {self.facts[key]}, expected {expected}: change it."
        )

    def has(self, keys: Collection[str], optional: Collection[str] = ()) -> None:
        """Raises Problem for a key that is missing, or that nothing reads."""
        if missing := [self._path(key) for key in keys if key not in self.facts]:
            raise Problem(f"The protocol {self.where} lacks {', '.join(missing)}: add them.")
        if unknown := [self._path(key) for key in self.facts if key not in {*keys, *optional}]:
            raise Problem(
                f"The protocol {self.where} has {', '.join(unknown)}, which nothing reads: correct the name to one of "
                f"{', '.join([*keys, *(key for key in optional if key not in keys)])}."
            )

    def part(self, key: str) -> _Part:
        return _Part(self.where, self._path(key), self.facts[key])

    def among(self, key: str, options: Collection[str]) -> None:
        value = self.facts[key]
        if not isinstance(value, str) or value not in options:
            raise self.refused(key, ", ".join(options))

    def count(self, key: str, least: int = 1) -> None:
        value = self.facts[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.refused(key, f"a whole number above {least - 1}")

    def kind(self, key: str, kinds: tuple[type, ...], expected: str) -> None:
        value = self.facts[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.refused(key, expected)
