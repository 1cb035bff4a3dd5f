"""Steps of one set of S3 from a row of the plan (JeDi, arXiv 2407.06187, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ...patching.evaluation.placement import pasted, placed
from ...patching.evaluation.same_subject import MOST, same_subject
from ...patching.evaluation.sets import member
from .assembly import Made, difference_hash
from .kept import Kept
from .plan import Plan, Row, digest
from .prompts import Bank
from .stages import STEPS, Cut, Stages, styles
from .studio import StageFailed


@dataclass(frozen=True)
class Member:
    """Member of a set on its way. made_of: what its costly results are kept under."""

    instance: int
    scene: str
    made_of: tuple[str, ...]
    picture: Image.Image
    style: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Draft:
    """Set on its way through the stages. found: cut-outs; same: numbers of those that show one subject."""

    row: Row
    prompt: str = ""
    hash: str = ""
    collage: Image.Image | None = None
    found: tuple[Cut, ...] = ()
    instances: tuple[dict[str, Any], ...] = ()
    same: tuple[int, ...] = ()
    members: tuple[Member, ...] = ()
    dropped: str = ""

    def made(self, size: int) -> Made:
        """Finished set. size: side of a member in pixels."""
        return Made(
            self.row,
            self.prompt,
            members=tuple(member(one.picture, size) for one in self.members),
            captions=tuple(one.caption for one in self.members),
            details=tuple(
                {"instance": one.instance, "scene": one.scene, **({"style": one.style} if one.style else {})}
                for one in self.members
            ),
            dropped=self.dropped,
            hash=self.hash,
            instances=self.instances,
            cuts=tuple(cut.picture for cut in self.found),
            collage=self.collage,
        )


class Steps:
    """Steps of sets (JeDi, arXiv 2407.06187, Algorithm 1). Each takes a draft one stage further.

    Raise StageFailed for a node's error, and Problem. bank: None where neither collages nor backgrounds need prompts.
    """

    def __init__(self, plan: Plan, stages: Stages, bank: Bank | None):
        self.plan, self.stages, self.bank = plan, stages, bank

    def set(self, row: Row) -> Made:
        """Set of a row after all steps, or with the sentence of the stage that failed. Raises Problem."""
        try:
            return self.taken(Draft(row), STEPS).made(self.plan.size)
        except StageFailed as error:
            return Made(row, "", failed=str(error))

    def kept(self, row: Row) -> Kept:
        return Kept(self.plan, self.plan.work(row.number // self.plan.facts["per_shard"]))

    def taken(self, draft: Draft, steps: Sequence[str]) -> Draft:
        """Draft after some steps; a dropped one takes none."""
        for step in steps:
            if not draft.dropped:
                draft = getattr(self, step)(draft)
        return draft

    def collage(self, draft: Draft) -> Draft:
        row = draft.row
        prompt = self.bank.of(self.plan, row) if self.bank else f"a {row.thing}"
        kept = self.kept(row)
        collage = kept.picture(row, "collage", "", [prompt], lambda: self.stages.collage(row, prompt))
        return replace(draft, prompt=prompt, collage=collage, hash=difference_hash(collage))

    def segment(self, draft: Draft) -> Draft:
        assert draft.collage is not None
        return replace(draft, found=tuple(self.stages.segment(draft.row, draft.collage)))

    def filter(self, draft: Draft) -> Draft:
        facts, one = same(self.plan, self.stages, list(draft.found))
        few = "" if len(one) >= min(self.plan.set_sizes) else f"{len(one)} of {len(facts)} instances show one subject"
        return replace(draft, instances=tuple(facts), same=tuple(one), dropped=few)

    def inpaint(self, draft: Draft) -> Draft:
        plan, row, kept = self.plan, draft.row, self.kept(draft.row)
        rng = plan.rng(row, "members")
        chosen = rng.sample(draft.same, rng.choice([size for size in plan.set_sizes if size <= len(draft.same)]))
        scenes = self.bank.scenes(plan, row, len(chosen)) if self.bank else [draft.prompt] * len(chosen)
        members = []
        for number, (i, scene) in enumerate(zip(chosen, scenes, strict=True)):
            subject = placed(draft.found[i].picture, plan.size, plan.rng(row, f"place{number}"))
            made_of = [digest(subject.tobytes().hex()), scene]
            behind = kept.picture(
                row,
                "inpaint",
                str(number),
                made_of,
                lambda n=number, on=subject, text=scene: self.stages.background(row, n, on, text),
            )
            if behind.size != subject.size:
                behind = behind.resize(subject.size, Image.Resampling.LANCZOS)
            plain = pasted(subject, behind)  # again, because a VAE blurs what it decodes
            members.append(Member(i, scene, tuple(made_of), plain))
        return replace(draft, members=tuple(members))

    def restyle(self, draft: Draft) -> Draft:
        row, kept = draft.row, self.kept(draft.row)
        members = []
        for number, one in enumerate(draft.members):
            style = styles(self.plan.stage("restyle"), self.plan.rng(row, f"style{number}"))
            made_of, picture = [*one.made_of, style], one.picture
            if style:
                picture = kept.picture(
                    row,
                    "restyle",
                    str(number),
                    made_of,
                    lambda n=number, plain=one.picture, text=style: self.stages.restyle(row, n, plain, text),
                )
            members.append(replace(one, style=style, made_of=tuple(made_of), picture=picture))
        return replace(draft, members=tuple(members))

    def caption(self, draft: Draft) -> Draft:
        row, kept = draft.row, self.kept(draft.row)
        members = []
        for number, one in enumerate(draft.members):
            said = kept.text(
                row,
                "caption",
                str(number),
                [*one.made_of],
                lambda n=number, of=one: self.stages.caption(row, n, of.picture, of.scene),
            )
            members.append(replace(one, caption=" ".join(said.replace("<|", "<").split())))
        return replace(draft, members=tuple(members))


def same(plan: Plan, stages: Stages, found: list[Cut]) -> tuple[list[dict[str, Any]], list[int]]:
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
