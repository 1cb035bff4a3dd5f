"""Subjects x prompts x seeds: the comparison that personalization papers publish, sampled and judged for any method."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from comfy.samplers import CFGGuider
from PIL import Image, ImageDraw

from ..demo import judge
from ..demo.world.captions import PLACE_PHRASES, extra_phrases
from ..demo.world.scene import PLACES, Scene, render
from ..demo.world.subjects import PersonalSubject
from . import generate
from .kept import Kept
from .report import mean_interval

if TYPE_CHECKING:
    from comfy.sd import VAE

_PHRASINGS = ("a photo of a {words} {where}", "{where} there is a {words}")
CHALLENGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "beach": (("umbrella", "duck"), ("hat", "moon")),
    "snow": (("hat", "flower"), ("umbrella",)),
    "grass": (("umbrella", "rain"), ("hat", "balloon")),
    "desert": (("rain", "flower"), ("hat", "duck")),
    "night": (("hat", "duck"), ("umbrella", "flower")),
    "city": (("umbrella", "rain"), ("moon", "balloon")),
    "sea": (("hat", "rain"), ("moon", "duck")),
    "room": (("hat", "balloon"), ("umbrella", "duck")),
}
"""Extras of the challenging prompts by place, one combination per phrasing."""


@dataclass(frozen=True)
class GridPrompt:
    """Place, phrasing and extras of a prompt, without the words that name the subject."""

    place: str
    phrasing: str
    extras: tuple[str, ...] = ()

    def text(self, words: str) -> str:
        worn, around = extra_phrases(self.extras)
        named = self.phrasing.format(words=" ".join([words, *worn]), where=PLACE_PHRASES[self.place])
        return " ".join([named, *around])


Method = Callable[[PersonalSubject], Callable[[Sequence[GridPrompt]], CFGGuider]]
"""Function of a subject that returns the function from a batch of prompts to the guider that samples them."""


Cell = Callable[[PersonalSubject, GridPrompt, Sequence[int]], dict[str, torch.Tensor]]
"""Function of a subject, a prompt and a batch of seeds that returns latents by row."""


@dataclass(frozen=True)
class Part:
    """Cell of a grid by its name: a subject in one prompt, with its seeds."""

    name: str
    subject: PersonalSubject
    prompt: GridPrompt
    seeds: list[int]


def drawn(names: Sequence[str], cell: Cell, vae: VAE, part: Part) -> np.ndarray:
    """Pictures [rows, seeds, size, size, 3] uint8 of a cell."""
    latents = cell(part.subject, part.prompt, part.seeds)
    return np.stack([generate.decode(vae, latents[name]) for name in names])


@dataclass(frozen=True)
class Grid:
    """Grid of a comparison: each subject in `prompts` prompts, never in the place of its references, with `seeds`
    seeds.

    Every second prompt is challenging: it names extras beside the place.
    """

    subjects: tuple[PersonalSubject, ...]
    prompts: int
    seeds: int

    def prompts_of(self, subject: PersonalSubject) -> list[GridPrompt]:
        elsewhere = [place for place in PLACES if place != subject.place]
        all_of_them = [
            GridPrompt(place, phrasing, extras)
            for number, phrasing in enumerate(_PHRASINGS)
            for place in elsewhere
            for extras in ((), CHALLENGES[place][number])
        ]
        if self.prompts > len(all_of_them):
            raise ValueError(
                f"expected at most {len(all_of_them)} prompts, got {self.prompts}; add phrasings to the grid"
            )
        return all_of_them[: self.prompts]

    def cells_of(self, subject: PersonalSubject) -> list[tuple[GridPrompt, list[int]]]:
        """Each prompt of a subject with its seeds."""
        first = zlib.crc32(subject.name.encode())
        return [
            (prompt, [first + i * self.seeds + k for k in range(self.seeds)])
            for i, prompt in enumerate(self.prompts_of(subject))
        ]

    def sample(self, method: Method, vae: VAE, settings: generate.Settings) -> np.ndarray:
        """Pictures [subjects, prompts, seeds, size, size, 3] uint8; each method starts a cell from the same noise."""
        images = []
        for subject in self.subjects:
            prompts = [p for p in self.prompts_of(subject) for _ in range(self.seeds)]
            first = zlib.crc32(subject.name.encode())
            seeds = [first + i for i in range(len(prompts))]
            images.append(generate.pictures(method(subject), vae, prompts, seeds, settings))
        return np.stack(images).reshape(len(self.subjects), self.prompts, self.seeds, *images[0].shape[1:])

    def sample_cells(
        self, names: Sequence[str], cell: Cell, vae: VAE, kept: Kept | None = None, label: str = ""
    ) -> dict[str, np.ndarray]:
        """Pictures of each row, as `sample` returns them; all rows of a cell are sampled together, from the same noise.

        kept: cache of each cell's pictures; label: name that separates them from those of other settings.
        """
        found = []
        for part in self.parts(names, label):
            make = partial(drawn, names, cell, vae, part)
            found.append(make() if kept is None else kept.array(part.name, make, part.subject.name))
        cells = np.stack(found).reshape(len(self.subjects), self.prompts, *found[0].shape)
        return {name: cells[:, :, i] for i, name in enumerate(names)}

    def parts(self, names: Sequence[str], label: str) -> list[Part]:
        """Cells of these rows."""
        rows = f"{label}-{'+'.join(names)}"
        return [
            Part(f"{rows}-{subject.name}-{number}of{self.prompts}x{self.seeds}", subject, prompt, seeds)
            for subject in self.subjects
            for number, (prompt, seeds) in enumerate(self.cells_of(subject))
        ]

    def score(self, images: np.ndarray, eye: judge.Judge) -> dict[str, np.ndarray]:
        """Scores by the judge: identity and prompt [subjects, prompts, seeds], layout [subjects, prompts]."""
        identity, prompt, layout = [], [], []
        for subject, pictures in zip(self.subjects, images, strict=True):
            verdict = eye.look(pictures.reshape(-1, *pictures.shape[2:]))
            identity.append(judge.identity(verdict, eye.look(renders(subject.training_scenes()))))
            wanted = [
                {"class": subject.subject.name, "place": p.place, "extras": p.extras}
                for p in self.prompts_of(subject)
                for _ in range(self.seeds)
            ]
            prompt.append(judge.prompt_accuracy(verdict, wanted))
            layout.append(
                [judge.layout_spread(some_of(verdict, cell)) for cell in np.split(np.arange(len(wanted)), self.prompts)]
            )
        shape = images.shape[:3]
        return {
            "identity": np.reshape(identity, shape),
            "prompt": np.reshape(prompt, shape).astype(float),
            "layout": np.array(layout),
        }


def row(name: str, scores: dict[str, np.ndarray]) -> dict:
    """Row of a report, each score with the interval of its mean."""
    return {
        "name": name,
        **{metric: mean_interval(values) for metric, values in scores.items()},
    }


def some_of(verdict: judge.Verdict, rows: np.ndarray) -> judge.Verdict:
    """Verdict on the pictures `rows` of a verdict."""
    return replace(verdict, **{f.name: getattr(verdict, f.name)[rows] for f in fields(verdict)})


def renders(scenes: Sequence[Scene]) -> np.ndarray:
    """[n, size, size, 3] uint8."""
    return np.stack([render(scene).image for scene in scenes])


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], headings: Sequence[tuple[str, int]]) -> Image.Image:
    """Draws a labeled sheet of equal pictures: rows of (label, pictures) below groups of (heading, number of
    columns)."""
    side, left, top, gap = rows[0][1][0].shape[0], 76, 22, 10
    group_of_column = [group for group, (_, columns) in enumerate(headings) for _ in range(columns)]
    x = [left + column * (side + 2) + group * gap for column, group in enumerate(group_of_column)]
    sheet = Image.new("RGB", (x[-1] + side + 2, top + len(rows) * (side + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for group, (heading, _) in enumerate(headings):
        draw.text((x[group_of_column.index(group)], 6), heading, fill="black")
    for line, (label, pictures) in enumerate(rows):
        y = top + line * (side + 2)
        draw.text((4, y + side // 2 - 6), label, fill="black")
        for position, picture in zip(x, pictures, strict=True):
            sheet.paste(Image.fromarray(picture), (position, y))
    return sheet
