"""Likeness Sampler's dial at several values, and a second subject drawn beside the first (JeDi, arXiv 2407.06187)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..demo import judge
from ..demo.world.subjects import REPORTED, PersonalSubject
from ..patching.features.references import OWN_SIZE
from ..patching.host.notices import Notices
from ..patching.subject.photographs import photographs
from ..patching.subject.prompt import subject_prompt
from ..patching.subject.sampler import draw
from ..patching.subject.sampler_inputs import NODE, Inputs
from ..patching.subject.sampler_settings import JOINT, NEUTRAL_PROMPT, PALETTE, RETOUCH, TEMPLATE, WHOLE_PROMPT
from ..patching.subject.subject import Subject
from ..patching.tinyland import model as tinyland
from . import generate, two_subjects
from .bases import LORA, placeholder, with_lora
from .grid import Grid, GridPrompt, renders, row
from .kept import Kept
from .report import Report, interval_figures
from .sweep import Sweep
from .timing import silence
from .tinyland import timed

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_ALL, _NEUTRAL = (0.0, 0.25, 0.5, 0.75, 1.0), (0.5, 1.0)
DIALS = {
    "palette guidance": (PALETTE, WHOLE_PROMPT, _ALL),
    "retouch, whole": (RETOUCH, WHOLE_PROMPT, _ALL),
    "retouch, neutral": (RETOUCH, NEUTRAL_PROMPT, _NEUTRAL),
    "joint": (JOINT, WHOLE_PROMPT, _ALL),
}
"""{name: method, target_prompt, values of likeness}. At 0, the target prompt has no effect."""
STRENGTH = 0.6
LABEL = "dial"
COMPLETE, QUICK = Grid(REPORTED[:4], prompts=1, seeds=2), Grid(REPORTED[:1], prompts=1, seeds=1)
NOTES = (
    "Defaults of Likeness Sampler and Subject with one photograph at its own size; 25 steps of euler at cfg 4, in "
    f"{generate.PRECISION}. retouch: the bundled LoRA at strength {STRENGTH:g}. joint: the demo's joint model.",
    "identity: cosine of the subject in a picture to its four reference renders. prompt: class and place as prompted. "
    "layout: spread of the subject over the seeds. Eight pictures tell trends, not differences of a few hundredths.",
    f"two_subjects: the second subject's identity in the right half of a picture whose left half has the first one, "
    f"with its references and without coupling; {len(two_subjects.PAIRS)} subjects with one seed each.",
)


def names(dials: dict) -> list[str]:
    """Names of the rows."""
    return [f"{name}, likeness {value:g}" for name, (_, _, values) in dials.items() for value in values]


@dataclass
class Dial:
    """Pictures of a subject at every value of the dial."""

    weights: Path
    settings: generate.Settings = field(default_factory=generate.Settings)

    def __post_init__(self) -> None:
        self.model, self.clip, self.vae = tinyland.load(self.weights, None, generate.DTYPE)
        self.joint = tinyland.load(self.weights, None, generate.DTYPE, joint=True)[0]

    def cell(self, subject: PersonalSubject, where: GridPrompt, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        """Latents of one subject in one place by the names of the rows."""
        personal = with_lora(self.model, self.weights, subject, STRENGTH)
        photo = torch.from_numpy(renders(subject.training_scenes()[:1])).float() / 255
        known = Subject(photographs({"image0": photo}, {}, Notices(NODE)), size=OWN_SIZE)
        found = {}
        for name, (method, target_prompt, values) in DIALS.items():
            learned = f"{placeholder(LORA)} {subject.subject.name}" if method == RETOUCH else ""
            text = where.text(f"{{{subject.subject.name}}}")
            one = partial(
                self._drawn,
                method=method,
                model=self.joint if method == JOINT else self.model,
                personalized_model=personal if method == RETOUCH else None,
                subject=known,
                prompt=subject_prompt(self.clip, text, learned, ""),
                target_prompt=target_prompt,
            )
            for value in values:
                found[f"{name}, likeness {value:g}"] = torch.cat([one(seed=seed, likeness=value) for seed in seeds])
        return found

    def _drawn(self, *, method: str, model: ModelPatcher, **given) -> torch.Tensor:
        settings, side = self.settings, self.settings.size // generate.LATENT_SCALE
        inputs = Inputs(
            model=model,
            vae=self.vae,
            latent={"samples": torch.zeros(1, 4, side, side)},
            steps=settings.steps,
            cfg=settings.cfg,
            sampler=settings.sampler,
            scheduler=settings.scheduler,
            layout=TEMPLATE,
            notices=Notices(NODE),
            **given,
        )
        return draw(inputs, method)[0]["samples"]


def sweeps(quick: bool, weights: Path = tinyland.WEIGHTS) -> dict[str, Sweep]:
    """All that several processes can draw."""
    dial = Dial(weights)
    cells = Sweep(tuple(names(DIALS)), dial.cell, dial.vae, QUICK if quick else COMPLETE, _kept(dial), LABEL)
    return {LABEL: cells}


def _kept(dial: Dial) -> Kept:
    return Kept.of("likeness", "likeness", dial.settings, dial.weights, ("autoencoder", "denoiser", "joint"))


def run(quick: bool, weights: Path = tinyland.WEIGHTS) -> Report:
    grid, dial, eye = QUICK if quick else COMPLETE, Dial(weights), judge.Judge.load()
    with silence():
        with timed("dial"):
            images = grid.sample_cells(names(DIALS), dial.cell, dial.vae, _kept(dial), LABEL)
        with timed("two subjects"):
            coupled, alone = two_subjects.identities(eye, two_subjects.PAIRS[: 1 if quick else None], weights)
    rows = [row(name, grid.score(pictures, eye)) for name, pictures in images.items()]
    figures = {
        **interval_figures("two_subjects_identity", coupled),
        **interval_figures("two_subjects_identity_uncoupled", alone),
        "two_subjects_raised": float(sum(a > b for a, b in zip(coupled, alone, strict=True))),
    }
    return Report("likeness", rows, figures, {}, NOTES)
