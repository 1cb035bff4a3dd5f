"""Tasks of a farm, and their outcomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...demo.launcher.client import Prompt


@dataclass(frozen=True)
class Task:
    """Picture to draw.

    name: the path of its files without their endings. key: hash of what makes it. output: id of the node that shows
    it. inputs: files by their names among the server's inputs.
    """

    name: str
    key: str
    graph: Prompt
    output: str
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Result of a task: the picture's bytes, or the sentence of a node's error. facts: for its record."""

    content: bytes = b""
    error: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def key_of(*made_of: Any) -> str:
    """Sixteen hexadecimal digits of everything that makes a picture, such as its graph and hashes of its inputs."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
