"""Stand-ins of all stages from the demo's world, for tests and `run.py s3 --smoke`: nothing is downloaded.

A collage has four panels of one subject on a plain ground. In one of four collages, one panel shows an impostor.
"""

from __future__ import annotations

from random import Random

import numpy as np
from PIL import Image

from ...demo.world.captions import PLACE_PHRASES
from ...demo.world.places import draw_place
from ...demo.world.scene import PLACES, Subject, render, sample_scene, sample_subject
from ...patching.evaluation import instances
from . import words
from .plan import Plan, Row
from .stages import Cut, Embeds, Stages

PANEL, MARGIN = 96, 6
GROUND = 200
IMPOSTORS = 0.25
_OTHER = 24
"""Difference from the ground in a color above which a pixel belongs to a subject."""


class Tinyland:
    """Draws collages, finds their instances by color, and draws places behind them."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def truth(self, row: Row) -> tuple[Subject, Subject, int]:
        """Subject of a set, its impostor, and the impostor's panel, -1 for none."""
        rng = self.plan.rng(row, "subject")
        own, other = _subject(rng, row.thing), _subject(rng, row.thing)
        while (other.color, other.pattern) == (own.color, own.pattern):
            other = _subject(rng, row.thing)
        return own, other, rng.randrange(4) if rng.random() < IMPOSTORS else -1

    def collage(self, row: Row, prompt: str) -> Image.Image:
        own, other, wrong = self.truth(row)
        rng = self.plan.rng(row, "collage")
        panels = [self._panel(other if i == wrong else own, rng) for i in range(4)]
        return Image.fromarray(np.concatenate([np.concatenate(panels[:2], 1), np.concatenate(panels[2:], 1)]))

    def _panel(self, subject: Subject, rng: Random) -> np.ndarray:
        drawn = render(sample_scene(rng, subject, "snow", extras=False), PANEL)
        alpha = drawn.mask[..., None] / 255.0
        shown = (drawn.image * alpha + GROUND * (1 - alpha)).round().astype(np.uint8)
        return np.pad(shown, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=GROUND)

    def segment(self, row: Row, collage: Image.Image) -> list[Cut]:
        """Instances in the order of their panels."""
        pixels = np.asarray(collage.convert("RGB"))
        mask = np.abs(pixels.astype(int) - GROUND).max(2) > _OTHER
        found = [one for one in instances.find(mask[None], parts=True, whole=False) if not one.dropped]
        found.sort(key=lambda one: self.panel(one.box, collage.width))
        return [Cut(Image.fromarray(one.cut(pixels))) for one in found]

    @staticmethod
    def panel(box: tuple[int, int, int, int], width: int) -> int:
        left, top, right, bottom = box
        return 2 * int(top + bottom > width) + int(left + right > width)

    def background(self, row: Row, number: int, subject: Image.Image, scene: str) -> Image.Image:
        place = next((place for place, phrase in PLACE_PHRASES.items() if phrase in scene), PLACES[0])
        return draw_place(place, self.plan.rng(row, f"ground{number}"), self.plan.size).convert("RGB")

    def restyle(self, row: Row, number: int, picture: Image.Image, style: str) -> Image.Image:
        return picture.convert("L").convert("RGB")

    def caption(self, row: Row, number: int, picture: Image.Image, scene: str) -> str:
        return scene


def _subject(rng: Random, thing: str) -> Subject:
    while (subject := sample_subject(rng)).name != thing:
        pass
    return subject


def stages(plan: Plan, embed: Embeds | None) -> Stages:
    """All stages."""
    world = Tinyland(plan)
    return Stages(world.collage, world.segment, embed, world.background, world.restyle, world.caption)


class TinylandWriter:
    """Language model that knows eight places, and colors by heart."""

    def answer(self, text: str, seed: int, picture: bytes | None = None) -> str:
        """Lines as a model writes them, with numbers."""
        thing = text.split("each with the words '")[1].split("'")[0]
        if "scenes" in text:
            lines = [f"a photo of a {thing} {phrase}" for phrase in PLACE_PHRASES.values()]
        else:
            lines = words.templates(words.OBJECT, thing, 8)
        return "Sure! Here you are:\n" + "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))
