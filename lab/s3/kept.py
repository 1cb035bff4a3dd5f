"""Costly intermediate results of a shard in its folder, so that a stopped run does not make them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..farm.records import whole
from .plan import Plan, Row, digest
from .studio import opened, png

CHEAP = ("folder", "template", "scene", "none")
"""Makers of a stage whose results are not kept."""


class Kept:
    """Costly intermediate results of a shard, each under a key of what it was made of, until the shard is done."""

    def __init__(self, plan: Plan, folder: Path):
        self.plan, self.folder = plan, folder

    def picture(
        self, row: Row, stage: str, number: str, made_of: list[str], make: Callable[[], Image.Image]
    ) -> Image.Image:
        """Picture of a stage; number: of the member, or empty."""
        if self.plan.stage(stage)["by"] in CHEAP:
            return make().convert("RGB")
        path = self._path(row, f"{stage}{number}", made_of, ".png")
        if not path.is_file():
            whole(path, png(make().convert("RGB")))
        return opened(path.read_bytes())

    def text(self, row: Row, stage: str, number: str, made_of: list[str], make: Callable[[], str]) -> str:
        if self.plan.stage(stage)["by"] in CHEAP:
            return make()
        path = self._path(row, f"{stage}{number}", made_of, ".txt")
        if not path.is_file():
            whole(path, make().encode())
        return path.read_text(encoding="utf-8")

    def _path(self, row: Row, name: str, made_of: list[str], ending: str) -> Path:
        return self.folder / f"{row.id}.{name}-{digest([self.plan.key, row.thing, row.source, *made_of])}{ending}"
