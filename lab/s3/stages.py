"""Stages of one set, each by a workflow, by a network in this process, or by the user's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ...demo.launcher.files import text_of
from ...patching.evaluation.same_subject import on_white
from ..joint import sets
from ..joint.build_sets import Background, cut_out, find_backgrounds
from . import graphs, words
from .plan import Plan, Row
from .prompts import Writer
from .studio import StageFailed, Studio, opened, png

STEPS = ("collage", "segment", "filter", "inpaint", "restyle", "caption")
"""Steps of a set in their order, by the names of their stages."""


@dataclass(frozen=True)
class Cut:
    """Instance cut out of a collage, RGBA. dropped: reason why it cannot be used, or empty."""

    picture: Image.Image
    dropped: str = ""


class Embeds(Protocol):
    """Network of the filter."""

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray: ...


@dataclass(frozen=True)
class Stages:
    """Functions that make one set (JeDi, arXiv 2407.06187, Algorithm 1).

    collage(row, prompt): line 3. segment(row, collage): line 4. embed: network of line 5, or None. background(row,
    number, subject, scene): line 6, a picture around a subject on transparent ground; the subject is pasted on it
    afterwards. restyle(row, number, picture, style): line 7. caption(row, number, picture, scene): line 8.
    """

    collage: Callable[[Row, str], Image.Image]
    segment: Callable[[Row, Image.Image], list[Cut]]
    embed: Embeds | None
    background: Callable[[Row, int, Image.Image, str], Image.Image]
    restyle: Callable[[Row, int, Image.Image, str], Image.Image]
    caption: Callable[[Row, int, Image.Image, str], str]


class Drawn:
    """Stages that a ComfyUI draws. Every seed is drawn for its set and stage alone."""

    def __init__(self, plan: Plan, studio: Studio):
        self.plan, self.studio = plan, studio

    def collage(self, row: Row, prompt: str) -> Image.Image:
        side = self.plan.facts["collage_size"]
        values = {"prompt": words.COLLAGE.format(prompt=prompt), "thing": row.thing, "width": side, "height": side}
        return self._picture("collage", row, "collage", values)

    def segment(self, row: Row, collage: Image.Image) -> list[Cut]:
        template = graphs.template(self.plan.stage("segment"))
        found, _ = self.studio.run(template, self._values(row, "segment", {"prompt": row.thing}), png(collage))
        cuts = [opened(content) for content in found]
        if wrong := [cut for cut in cuts if "A" not in cut.getbands()]:
            raise StageFailed(f"{template.name} shows pictures of the mode {wrong[0].mode}, expected transparent ones")
        return [Cut(cut.convert("RGBA")) for cut in cuts if cut.getchannel("A").getbbox()]

    def background(self, row: Row, number: int, subject: Image.Image, scene: str) -> Image.Image:
        return self._picture("inpaint", row, f"inpaint{number}", {"prompt": scene}, subject)

    def restyle(self, row: Row, number: int, picture: Image.Image, style: str) -> Image.Image:
        return self._picture("restyle", row, f"restyle{number}", {"prompt": style}, picture)

    def _picture(
        self, stage: str, row: Row, name: str, values: dict[str, Any], source: Image.Image | None = None
    ) -> Image.Image:
        template = graphs.template(self.plan.stage(stage))
        content = None if source is None else png(source)
        return opened(self.studio.picture(template, self._values(row, name, values), content)).convert("RGB")

    def _values(self, row: Row, name: str, values: dict[str, Any]) -> dict[str, Any]:
        seed = self.plan.rng(row, f"{name}/seed").getrandbits(32)
        return {"thing": row.thing, "seed": seed, "size": self.plan.size, **values}


class Given:
    """Stages that the user's files replace."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def collage(self, row: Row, prompt: str) -> Image.Image:
        return sets.opened(Path(row.source)).convert("RGB")

    def no_collage(self, row: Row, prompt: str) -> Image.Image:
        """Empty picture, where the instances are given."""
        return Image.new("RGB", (8, 8), "white")

    def segment(self, row: Row, collage: Image.Image) -> list[Cut]:
        """Cut-out pictures in the folder of the row's source, or of its id."""
        given = row.source and Path(row.source).is_dir()
        named = Path(row.source) if given else Path(self.plan.stage("segment")["path"]) / row.id
        found = [path for path in sets.pictures_in(named) if not path.name.endswith(".mask.png")]
        if not found:
            raise StageFailed(f"no cut-out pictures in {named}")
        return [Cut(cut_out(path).convert("RGBA")) for path in found]

    def background(self, row: Row, number: int, subject: Image.Image, scene: str) -> Image.Image:
        """One of the user's pictures, each member of a set another."""
        return self._background(row, number).draw(self.plan.size, self.plan.rng(row, f"background{number}"))

    def place(self, row: Row, number: int, picture: Image.Image, scene: str) -> str:
        """Caption of the template with the text of the background."""
        said = self._background(row, number).text.split() if self.plan.stage("inpaint")["by"] == "folder" else []
        return " ".join([self.plan.stage("caption")["template"].replace("{name}", row.thing), *said])

    def _background(self, row: Row, number: int) -> Background:
        known = self._backgrounds
        order = self.plan.rng(row, "backgrounds").sample(range(len(known)), len(known))
        return known[order[number % len(known)]]

    @cached_property
    def _backgrounds(self) -> list[Background]:
        return find_backgrounds(Path(self.plan.stage("inpaint")["path"]))

    def caption(self, row: Row, number: int, picture: Image.Image, scene: str) -> str:
        path = Path(self.plan.stage("caption")["path"]) / f"{row.id}-{number}.txt"
        if not (said := text_of(path).strip()):
            raise StageFailed(f"no caption in {path}")
        return said


class Captions:
    """Captions by a language model that sees the picture; one that does not name the object is replaced."""

    def __init__(self, writer: Writer):
        self.writer = writer

    def caption(self, row: Row, number: int, picture: Image.Image, scene: str) -> str:
        """Caption of a picture, or its scene's text where the answer does not name the object."""
        answer = self.writer.answer(words.CAPTION.format(thing=row.thing), row.number * 16 + number, png(picture))
        said = words.tidy(answer)
        return said if words.usable(said, row.thing) else scene


def scene_caption(row: Row, number: int, picture: Image.Image, scene: str) -> str:
    """Caption that is the scene's prompt."""
    return scene


def unchanged(row: Row, number: int, picture: Image.Image, style: str) -> Image.Image:
    """Picture of a pipeline without restyling."""
    return picture


class Filter:
    """Encoder of the filter, which sees the instances whole on white."""

    def __init__(self, encoder: Embeds):
        self.encoder = encoder

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        return self.encoder.pictures([on_white(picture) for picture in pictures])


def styles(stage: dict[str, Any], rng: Random) -> str:
    """Style of one member, or empty for none (JeDi, arXiv 2407.06187, Algorithm 1, line 7).

    The probability of a style is not known.
    """
    return rng.choice(stage["styles"]) if rng.random() < stage["share"] else ""
