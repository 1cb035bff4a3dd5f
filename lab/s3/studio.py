"""Runs the stages' workflows on one ComfyUI, and starts a lost one of our own again."""

from __future__ import annotations

import io
import shutil
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, UnidentifiedImageError

from ...demo.launcher.files import Problem
from ..evaluate.templates import Graph, Template
from ..farm.attempts import Attempts, GivenUp


class StageFailed(Exception):
    """Raised when a node of a stage's workflow raises; the message is its sentence."""


class Serves(Protocol):
    """ComfyUI as a studio uses it."""

    def start(self) -> None: ...
    def restart(self) -> None: ...
    def stop(self) -> None: ...
    def upload(self, name: str, content: bytes) -> None: ...
    def results(self, graph: Graph, output: str, timeout: float) -> tuple[list[bytes], str]: ...


class Studio:
    """Server that does one workflow at a time."""

    def __init__(self, server: Serves, timeout: float = 1800.0):
        self.server, self.timeout = server, timeout
        self._name = f"likeness_s3_{uuid.uuid4().hex}.png"  # one name for all, so that the server's folder stays small
        self._one, self._attempts = threading.Lock(), Attempts(server)

    def picture(self, template: Template, values: Mapping[str, Any], source: bytes | None = None) -> bytes:
        """Picture of a workflow that shows one. source: PNG for its slot `picture`."""
        found, _ = self.run(template, values, source)
        if len(found) != 1:
            raise Problem(
                f"Expected one picture from the workflow {template.name}, got {len(found)}: set its batch size to 1."
            )
        return found[0]

    def run(
        self, template: Template, values: Mapping[str, Any], source: bytes | None = None
    ) -> tuple[list[bytes], str]:
        """Pictures and text that a workflow shows. Raises StageFailed for a node's error, and Problem."""
        known = {**values, "picture": self._name}
        graph = template.filled({slot: known[slot] for slot in template.names})

        def draw() -> tuple[list[bytes], str]:
            if source is not None:
                self.server.upload(self._name, source)
            return self.server.results(graph, template.output, self.timeout)

        try:
            with self._one:
                return self._attempts.run(draw)[0]
        except GivenUp as error:
            raise StageFailed(f"{template.name}: {error}") from error


class WorkflowWriter:
    """Language model that runs inside ComfyUI, behind the same interface as an endpoint."""

    def __init__(self, studio: Studio, template: Template):
        self.studio, self.template = studio, template

    def answer(self, text: str, seed: int, picture: bytes | None = None) -> str:
        """Answer to a text. Raises Problem."""
        try:
            _, answer = self.studio.run(self.template, {"prompt": text, "seed": seed}, picture)
        except StageFailed as error:
            raise Problem(f"The language model failed ({error}): change its workflow.") from error
        return answer


def opened(content: bytes) -> Image.Image:
    """Picture of a file's bytes. Raises StageFailed for bytes that are none."""
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise StageFailed(f"a picture that cannot be read ({error})") from error
    return picture


def png(picture: Image.Image) -> bytes:
    """PNG of a picture, without anything but its pixels."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def tidy(base: Path | None) -> None:
    """Removes the pictures that our own server has shown."""
    for path in (base / "temp").iterdir() if base is not None and (base / "temp").is_dir() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
