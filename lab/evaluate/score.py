"""Scores of a plan's finished pictures by the metrics of a protocol, written to OUT/scores."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from ...demo.launcher.files import Problem
from ...patching.evaluation.masks import CutOut, center, is_empty
from ...patching.evaluation.similarity import between_photos, closest, copy_limit, cosines
from ..farm.records import Records, whole
from . import eyes, outside, subjects
from .embeddings import Embeddings
from .eyes import JUDGE, Eye, JudgeEye
from .masks import FolderMasks, JudgeMasks, KnownMasks, detected
from .means import Score, compared, mean_over
from .plan import Job, Plan
from .protocol import Protocol

PHOTOS = "(photos)"
"""Row of the subjects' own photos, each compared with the others."""


@dataclass(frozen=True)
class Options:
    """Places of weights, masks and other Pythons."""

    weights: Path | None = None
    masks: Path | None = None
    reward_python: Path | None = None
    device: str = "cpu"
    detector: str = ""
    sam: str = ""


@dataclass(frozen=True)
class Drawn:
    """Finished picture of a plan."""

    job: Job
    path: Path
    hash: str

    def open(self) -> Image.Image:
        return subjects.opened(self.path)


class Scorer:
    """Scores the pictures of one plan by one protocol."""

    def __init__(self, plan: Plan, protocol: Protocol, options: Options):
        self.plan, self.protocol, self.options = plan, protocol, options
        self.folders = eyes.folders(options.weights)
        records = Records(plan.folder)
        survey = records.survey()
        found = [(job, survey.record(job.name, plan.key(job))) for job in plan.jobs()]
        self.drawn = [Drawn(job, records.picture(job.name), record["sha256"][:16]) for job, record in found if record]
        self.used: dict[str, str] = {}
        self._eyes: dict[tuple[str, str], Eye] = {}
        self._known_masks: KnownMasks | None = None

    def check(self, metrics: Sequence[str]) -> None:
        """Loads what the metrics need, the networks last, before the slow part. Raises Problem."""
        if unknown := [name for name in metrics if name not in self.protocol.metrics]:
            raise Problem(
                f"The protocol {self.protocol.name} has no metric {', '.join(unknown)}: use "
                f"{', '.join(self.protocol.metrics)}."
            )
        if not self.drawn:
            raise Problem(f"{self.plan.folder} has no finished picture: run `run.py evaluate generate` first.")
        every = {name: self.protocol.metrics[name] for name in metrics}
        for name, facts in every.items():
            if "mask" in facts:
                self._masks(name)
            if facts["kind"] == "inception":
                outside.inception_weights(self.folders)
            if facts["kind"] == "image-reward":
                outside.reward_python(self.options.reward_python)
                outside.reward_weights(self.options.weights)
            if facts["kind"] == "judge-prompt":
                eyes.check_classes(name, self.plan.subjects.values())
        for name, facts in every.items():
            if "model" in facts:
                self.used[name] = self._eye(facts).key

    def _eye(self, facts: dict[str, Any]) -> Eye:
        key = facts["model"], facts.get("geometry", "")
        if key not in self._eyes:
            self._eyes[key] = eyes.load(facts, self.folders, self.options.device)
        return self._eyes[key]

    def _masks(self, metric: str) -> KnownMasks:
        facts = self.protocol.metrics[metric]
        if not (self.options.masks or self.options.detector or facts.get("model") == JUDGE):
            raise Problem(
                f"The metric {metric} needs masks of the subject: name a folder of them with --masks, find them "
                "with --detector, or leave it out with --metrics."
            )
        if self._known_masks is None:
            if self.options.masks:
                source, self.used["masks"] = FolderMasks(self.options.masks), "a folder"
            elif self.options.detector:
                found = eyes.detector(self.options.detector, self.folders, self.options.device)
                source = detected(self.plan, found, self.options.sam)
                self.used["masks"] = f"{found.key} {self.options.sam}".strip()
            else:
                source = JudgeMasks(cast(JudgeEye, self._eye(facts)))
            self._known_masks = KnownMasks(source)
        return self._known_masks

    def score(self, metric: str) -> list[Score]:
        """Scores of every picture, and of the photos where the metric compares with them."""
        facts = self.protocol.metrics[metric]
        kinds: dict[str, Callable[[str, dict[str, Any]], list[Score]]] = {
            "identity": self._identity,
            "text": self._text,
            "judge-prompt": self._judge_prompt,
            "inception": self._inception,
            "image-reward": self._image_reward,
        }
        return kinds[facts["kind"]](metric, facts)

    def _embedded(self, metric: str, photos: bool = True) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Embeddings of the pictures by their jobs' names, and of each subject's photos; NaN for an empty mask."""
        facts = self.protocol.metrics[metric]
        eye, cut = self._eye(facts), facts.get("mask")
        treatment = CutOut(**facts["mask"]) if cut else CutOut()
        masks = self._masks(metric) if cut else None
        named = {one.job.name: (one.hash, one.open) for one in self.drawn}
        if photos:
            for subject in self.plan.subjects.values():
                for photo in subject.photos:
                    name = f"{subject.name}/{Path(photo.file).stem}"
                    named[name] = photo.hash, functools.partial(subjects.opened, Path(photo.file))
        wanted: dict[str, Callable[[], Image.Image]] = {}
        hashes: dict[str, str] = {}
        for name, (content, opener) in named.items():
            if masks is None:
                wanted[content], hashes[name] = opener, content
                continue
            mask = masks.of(name, content, opener)
            key = f"{content}-{hashlib.sha256(mask.tobytes()).hexdigest()[:8]}"
            if not is_empty(mask):
                wanted[key] = functools.partial(_cut, treatment, opener, masks, name, content)
                hashes[name] = key
        suffix = f"-{cut['fill']}{'-cropped' if cut['crop'] else ''}" if cut else ""
        found = Embeddings(self.plan.folder, eye.key + suffix).of(wanted, eye.pictures)
        nothing = np.full_like(next(iter(found.values())), np.nan) if found else np.full(1, np.nan, np.float32)
        embedding = {name: found[hashes[name]] if name in hashes else nothing for name in named}
        return embedding, {
            subject.name: np.stack([embedding[f"{subject.name}/{Path(photo.file).stem}"] for photo in subject.photos])
            for subject in self.plan.subjects.values()
            if photos
        }

    def _identity(self, metric: str, facts: dict[str, Any]) -> list[Score]:
        embedding, photos = self._embedded(metric)
        scores = []
        for name, own in photos.items():
            seen = own[np.isfinite(own).all(1)]
            if len(seen) > 1:
                scores.append(Score(PHOTOS, name, (), -1, -1, float(between_photos(seen).mean()), len(seen)))
        limits = {name: copy_limit(own[np.isfinite(own).all(1)]) for name, own in photos.items()}
        for one in self.drawn:
            job = one.job
            own, picture = photos[job.subject], embedding[job.name][None]
            usable = [i for i in range(len(own)) if np.isfinite(own[i]).all()]
            similar, limit = cosines(picture, own)[0], limits[job.subject]
            among = [i for i in compared(len(own), job.inputs, self.protocol.facts["compare"]) if i in usable]
            rest = [i for i in compared(len(own), job.inputs, "others") if i in usable]
            scores.append(
                _score(
                    job,
                    mean_over(similar, among),
                    pairs=len(among),
                    others=mean_over(similar, rest),
                    copied=bool(closest(picture, own[usable])[0] > limit) if np.isfinite(limit) else None,
                )
            )
        return scores

    def _text(self, metric: str, facts: dict[str, Any]) -> list[Score]:
        eye: Any = self._eye(facts)
        embedding, _ = self._embedded(metric, photos=False)
        texts = {one.job.name: self._words(one.job, facts) for one in self.drawn}
        different = sorted({text for text in texts.values() if text})
        known = dict(zip(different, eye.texts(different), strict=True)) if different else {}
        return [
            _score(one.job, float(embedding[one.job.name] @ known[text]) if (text := texts[one.job.name]) else np.nan)
            for one in self.drawn
        ]

    def _words(self, job: Job, facts: dict[str, Any]) -> str | None:
        prompt = self.plan.prompts(job.subject)[job.prompt]
        return subjects.text(facts.get("text", "class"), prompt, self.plan.subjects[job.subject])

    def _judge_prompt(self, metric: str, facts: dict[str, Any]) -> list[Score]:
        eye: Any = self._eye(facts)
        noun = {name: subject.noun for name, subject in self.plan.subjects.items()}
        return [
            _score(one.job, eye.right(one.open(), noun[one.job.subject], self._words(one.job, {}) or ""))
            for one in self.drawn
        ]

    def _inception(self, metric: str, facts: dict[str, Any]) -> list[Score]:
        groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for one in self.drawn:
            groups[one.job.row, one.job.subject].append(one.path)
        return [
            Score(row, subject, (), -1, -1, outside.inception_score(paths, self.folders, self.options.device))
            for (row, subject), paths in groups.items()
        ]

    def _image_reward(self, metric: str, facts: dict[str, Any]) -> list[Score]:
        pairs = [(one.path, self._words(one.job, facts) or "") for one in self.drawn]
        weights = outside.reward_weights(self.options.weights)
        values = outside.image_rewards(self.options.reward_python, weights, pairs)
        return [_score(one.job, value) for one, value in zip(self.drawn, values, strict=True)]

    def centers(self) -> list[list[Any]]:
        """Place of the subject in each picture whose mask is known: [row, subject, prompt, x, y]."""
        metric = next((name for name, facts in self.protocol.metrics.items() if "mask" in facts), None)
        if metric is None or metric not in self.used:
            return []
        masks = self._masks(metric)
        found = [(one.job, center(masks.of(one.job.name, one.hash, one.open))) for one in self.drawn]
        return [[job.row, job.subject, job.prompt, *place] for job, place in found if place]

    def map(self, metric: str) -> list[list[Any]]:
        """Embedding of every picture and photo on two axes: [row, subject, x, y]."""
        from .projection import project

        embedding, photos = self._embedded(metric)
        names = [(one.job.row, one.job.subject, embedding[one.job.name]) for one in self.drawn]
        names += [(PHOTOS, subject, own) for subject, several in photos.items() for own in several]
        seen = [(row, subject, vector) for row, subject, vector in names if np.isfinite(vector).all()]
        places = project(np.stack([vector for _, _, vector in seen]))
        return [[row, subject, *map(float, place)] for (row, subject, _), place in zip(seen, places, strict=True)]


def _cut(cut: CutOut, opener: Callable[[], Image.Image], masks: KnownMasks, name: str, content: str) -> Image.Image:
    """Picture of the subject alone, opened again so that no more than a block of them is in memory."""
    alone = cut.apply(opener(), masks.of(name, content, opener))
    assert alone is not None
    return alone


def _score(job: Job, value: float, **more: Any) -> Score:
    return Score(job.row, job.subject, job.inputs, job.prompt, job.seed, value, **more)


def run(
    plan: Plan, protocol: Protocol, metrics: Sequence[str], options: Options, say: Callable[[str], Any] = print
) -> Path:
    """Scores every finished picture and writes OUT/scores/PROTOCOL-HASH.json and .jsonl. Raises Problem."""
    scorer = Scorer(plan, protocol, options)
    wanted = metrics or [name for name, facts in protocol.metrics.items() if not facts.get("optional")]
    scorer.check(wanted)
    lines = []
    for name in wanted:
        scores = scorer.score(name)
        lines += [json.dumps({"metric": name, **asdict(score)}) for score in scores]
        say(f"{name}: {len(scores)} scores")
    base = plan.folder / "scores" / f"{protocol.name}-{protocol.hash}"
    identity = next((name for name in wanted if protocol.metrics[name]["kind"] == "identity"), None)
    about = {
        "protocol": protocol.facts,
        "title": protocol.title,
        "metrics": wanted,
        "networks": scorer.used,
        "copies": identity,
        "centers": scorer.centers(),
        "map": scorer.map(identity) if identity else [],
    }
    whole(base.with_name(base.name + ".jsonl"), ("\n".join(lines) + "\n").encode())
    whole(base.with_name(base.name + ".json"), json.dumps(about).encode())
    return base.with_name(base.name + ".json")


def read(about: Path) -> tuple[dict[str, Any], dict[str, list[Score]]]:
    """Facts and scores, by metric, that `run` wrote. Raises Problem."""
    try:
        facts = json.loads(about.read_text(encoding="utf-8"))
        scores: dict[str, list[Score]] = {name: [] for name in facts["metrics"]}
        for line in about.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            metric = entry.pop("metric")
            scores[metric].append(Score(**{**entry, "inputs": tuple(entry["inputs"])}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"The scores {about} are missing or broken: run `run.py evaluate score` again.") from error
    return facts, scores
