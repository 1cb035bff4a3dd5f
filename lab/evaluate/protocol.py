"""Protocols: every detail of an evaluation that moves a number, under one name and one hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ...demo.launcher.files import Problem
from ...patching.evaluation.preprocessing import GEOMETRIES
from .facts import check

PRESETS = Path(__file__).parent / "protocols"
_DRAWING = ("prompts", "images_per_prompt", "inputs", "sampling")
"""Parts of a protocol that its pictures depend on."""


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

    def scoring(self, drawn: Protocol) -> Protocol:
        """This protocol for pictures that another one drew: its prompts, inputs, numbers and settings are kept.

        A protocol that scores its own pictures so keeps its hash.
        """
        return Protocol({**self.facts, **{key: drawn.facts[key] for key in _DRAWING}})

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
    """Protocol of these facts. Raises Problem for a missing, unknown or wrong value."""
    check(facts, where)
    return Protocol(facts)
