"""One set of S3 from a row of the plan (JeDi, arXiv 2407.06187, Algorithm 1), with everything that was dropped."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...patching.evaluation.placement import pasted, placed
from ...patching.evaluation.same_subject import MOST, same_subject
from ...patching.evaluation.sets import member
from ..farm.records import whole
from .plan import Plan, Row, digest
from .prompts import Bank
from .stages import Cut, Stages, styles
from .studio import opened, png

CHEAP = ("folder", "template", "scene", "none")
"""Makers of a stage whose results are not kept."""


@dataclass(frozen=True)
class Made:
    """Set, or the reason why there is none. instances: facts of the cut-outs; cuts: their pictures."""

    row: Row
    prompt: str
    members: tuple[np.ndarray, ...] = ()
    captions: tuple[str, ...] = ()
    details: tuple[dict[str, Any], ...] = ()
    dropped: str = ""
    hash: str = ""
    instances: tuple[dict[str, Any], ...] = ()
    cuts: tuple[Image.Image, ...] = field(default=(), repr=False)
    collage: Image.Image | None = field(default=None, repr=False)

    def facts(self) -> dict[str, Any]:
        """Facts for the shard."""
        return {
            "id": self.row.id,
            "object": self.row.thing,
            "prompt": self.prompt,
            "instances": list(self.instances),
            "members": list(self.details),
            "hash": self.hash,
            **({"dropped": self.dropped} if self.dropped else {}),
        }


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


def assemble(plan: Plan, stages: Stages, bank: Bank | None, row: Row, kept: Kept) -> Made:
    """Makes the set of a row (JeDi, arXiv 2407.06187, Algorithm 1). Raises StageFailed for a node's error, and Problem.

    bank: None where neither collages nor backgrounds need prompts.
    """
    prompt = bank.of(plan, row) if bank else f"a {row.thing}"
    collage = kept.picture(row, "collage", "", [prompt], lambda: stages.collage(row, prompt))
    found = stages.segment(row, collage)
    facts, same = _same(plan, stages, found)
    base: dict[str, Any] = {
        "prompt": prompt,
        "hash": difference_hash(collage),
        "instances": tuple(facts),
        "cuts": tuple(cut.picture for cut in found),
        "collage": collage,
    }
    sizes = [size for size in plan.set_sizes if size <= len(same)]
    if not sizes:
        return Made(row, dropped=f"{len(same)} of {len(found)} instances show one subject", **base)
    rng = plan.rng(row, "members")
    chosen = rng.sample(same, rng.choice(sizes))
    scenes = bank.scenes(plan, row, len(chosen)) if bank else [prompt] * len(chosen)
    members, captions, details = [], [], []
    for number, (i, scene) in enumerate(zip(chosen, scenes, strict=True)):
        picture, style, caption = _member(plan, stages, row, kept, number, found[i].picture, scene)
        members.append(member(picture, plan.size))
        captions.append(caption)
        details.append({"instance": i, "scene": scene, **({"style": style} if style else {})})
    return Made(row, members=tuple(members), captions=tuple(captions), details=tuple(details), **base)


def _same(plan: Plan, stages: Stages, found: list[Cut]) -> tuple[list[dict[str, Any]], list[int]]:
    """Facts of each cut, and the numbers of those that show one subject."""
    facts = [{"size": list(cut.picture.size), **({"dropped": cut.dropped} if cut.dropped else {})} for cut in found]
    usable = [i for i, cut in enumerate(found) if not cut.dropped]
    for i in usable[MOST:]:
        facts[i]["dropped"] = f"one of more than {MOST} instances"
    usable = usable[:MOST]
    if stages.embed is None or not usable:
        return facts, usable
    embedded = stages.embed.pictures([found[i].picture for i in usable])
    group = same_subject(embedded, plan.stage("filter")["threshold"])
    for place, i in enumerate(usable):
        others = np.delete(group.similarity[place], place)
        if len(others):
            facts[i]["similarity"] = round(float(np.median(others)), 4)
        if place in group.reasons:
            facts[i]["dropped"] = group.reasons[place]
    return facts, [usable[place] for place in group.kept]


def _member(
    plan: Plan, stages: Stages, row: Row, kept: Kept, number: int, cut: Image.Image, scene: str
) -> tuple[Image.Image, str, str]:
    """Picture of a member, its style and its caption."""
    subject = placed(cut, plan.size, plan.rng(row, f"place{number}"))
    made_of = [digest(subject.tobytes().hex()), scene]
    behind = kept.picture(row, "inpaint", str(number), made_of, lambda: stages.background(row, number, subject, scene))
    if behind.size != subject.size:
        behind = behind.resize(subject.size, Image.Resampling.LANCZOS)
    plain = pasted(subject, behind)  # again, because a VAE blurs what it decodes
    style = styles(plan.stage("restyle"), plan.rng(row, f"style{number}"))
    made_of.append(style)
    picture = plain
    if style:
        picture = kept.picture(row, "restyle", str(number), made_of, lambda: stages.restyle(row, number, plain, style))
    said = kept.text(row, "caption", str(number), made_of, lambda: stages.caption(row, number, picture, scene))
    return picture, style, " ".join(said.replace("<|", "<").split())


def difference_hash(picture: Image.Image) -> str:
    """64 bits, as hexadecimal digits, that stay the same for a picture of another size or compression."""
    small = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def thumbnail(picture: Image.Image, side: int) -> bytes:
    """Small WebP of a picture, for the sheet."""
    small = picture.copy()
    small.thumbnail((side, side))
    content = io.BytesIO()
    small.save(content, format="WEBP", quality=80)
    return content.getvalue()
