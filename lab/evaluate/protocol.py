"""Protocols: every detail of an evaluation that moves a number, under one name and one hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ...demo.launcher.files import Problem
from ...patching.evaluation.masks import FILLS
from ...patching.evaluation.preprocessing import GEOMETRIES

PRESETS = Path(__file__).parent / "protocols"
CHOICES = ("first", "each", "random")
COMPARED = ("all", "input", "others")
ORDERS = ("subjects", "images", "pairs")
TEXTS = ("class", "raw", "braces", "background")
KINDS = ("identity", "text", "judge-prompt", "inception", "image-reward")
SAMPLING = ("width", "height", "steps", "cfg", "sampler", "scheduler", "negative", "seed")
_KEYS = ("name", "version", "prompts", "images_per_prompt", "inputs", "compare", "order", "sampling", "metrics")


@dataclass(frozen=True)
class Protocol:
    """Protocol as its JSON file states it."""

    facts: dict[str, Any]

    @property
    def name(self) -> str:
        return self.facts["name"]

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change with every detail but the description."""
        facts = {key: value for key, value in self.facts.items() if key != "about"}
        facts["geometries"] = {
            name: GEOMETRIES[metric["geometry"]].as_dict()
            for name, metric in self.metrics.items()
            if "geometry" in metric
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """Name and hash, as they stand in every table."""
        return f"{self.name} {self.hash}"

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        return self.facts["metrics"]

    @property
    def sampling(self) -> dict[str, Any]:
        return self.facts["sampling"]

    @property
    def axes(self) -> tuple[str, str]:
        """Metrics of the plot of identity against prompt."""
        first, second = self.facts.get("axes", ("dino", "clip-t"))
        return first, second

    def inputs(self, subject: str, photos: int) -> list[tuple[int, ...]]:
        """Choices of a subject's input photos, as their indices."""
        choice, count = self.facts["inputs"]["choice"], self.facts["inputs"]["count"]
        if photos < count:
            raise Problem(
                f"The protocol {self.name} takes {count} photos of each subject, and {subject} has {photos}: add "
                "photos, or leave the subject out with --only."
            )
        if choice == "each":
            return [(i,) for i in range(photos)]
        if choice == "random":
            return [tuple(sorted(Random(f"{self.name}/{subject}").sample(range(photos), count)))]
        return [tuple(range(count))]

    def seed(self, prompt: int, picture: int) -> int:
        """Seed of a picture: the same for every method and subject, another for every prompt."""
        return self.sampling["seed"] + prompt * self.facts["images_per_prompt"] + picture


def names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.json") if path.stem != "dreambench")


def load(name: str) -> Protocol:
    """Preset of this name, or the protocol in a JSON file. Raises Problem."""
    path = Path(name).expanduser() if name.endswith(".json") else PRESETS / f"{name}.json"
    if not name.endswith(".json") and name not in names():
        raise Problem(f"There is no protocol {name}: use one of {', '.join(names())}, or a JSON file of your own.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Problem(f"The protocol {path} is not there: name a JSON file or one of {', '.join(names())}.") from error
    except ValueError as error:
        raise Problem(f"The protocol {path} is not JSON ({error}): mend it.") from error
    return checked(facts, str(path))


def checked(facts: Any, where: str) -> Protocol:
    """Protocol of these facts. Raises Problem for a missing or unknown value."""

    def refuse(what: str, expected: object, got: object) -> Problem:
        options = ", ".join(map(str, expected)) if isinstance(expected, list | tuple) else expected
        return Problem(f"The protocol {where} has {what} {got}, expected {options}: change it.")

    missing = [key for key in _KEYS if key not in facts] if isinstance(facts, dict) else list(_KEYS)
    if missing:
        raise Problem(f"The protocol {where} lacks {', '.join(missing)}: add them.")
    values = (
        ("inputs.choice", CHOICES, facts["inputs"].get("choice")),
        ("compare", COMPARED, facts["compare"]),
        ("order", ORDERS, facts["order"]),
        *((f"metrics.{name}.kind", KINDS, metric.get("kind")) for name, metric in facts["metrics"].items()),
        *(
            (f"metrics.{name}.{key}", tuple(options), metric[key])
            for name, metric in facts["metrics"].items()
            for key, options in (("geometry", GEOMETRIES), ("text", TEXTS))
            if key in metric
        ),
        *(
            (f"metrics.{name}.mask.fill", tuple(FILLS), metric["mask"].get("fill"))
            for name, metric in facts["metrics"].items()
            if "mask" in metric
        ),
    )
    for what, options, got in values:
        if got not in options:
            raise refuse(what, options, got)
    for what, got in (
        ("images_per_prompt", facts["images_per_prompt"]),
        ("inputs.count", facts["inputs"].get("count")),
        ("version", facts["version"]),
    ):
        if not isinstance(got, int) or got < 1:
            raise refuse(what, "a whole number above 0", got)
    if absent := [key for key in SAMPLING if key not in facts["sampling"]]:
        raise Problem(f"The protocol {where} lacks sampling.{', sampling.'.join(absent)}: add them.")
    return Protocol(facts)
