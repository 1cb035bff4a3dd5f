"""Plan of an evaluation: its folder, its methods and subjects, and every picture as a job with a name and a key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...demo.launcher.files import Problem, write_json
from ..farm.task import key_of
from . import subjects, templates
from .protocol import Protocol
from .separate import FOLDERS, Separate
from .subjects import SLOT, Subject
from .templates import REFERENCES, Graph, Template

FORMAT = 2
NEUTRAL = "a photo of a {}"


@dataclass(frozen=True)
class Row:
    """Row of the tables: a method, with the strength of its dial where one was given."""

    name: str
    template: Template
    dial: Any = None


@dataclass(frozen=True)
class Job:
    """One picture. name: METHOD/SUBJECT/INPUTS/PROMPT-SEED, the path of its files without their endings."""

    name: str
    row: str
    subject: str
    inputs: tuple[int, ...]
    prompt: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """Plan of a folder, as plan.json states it."""

    folder: Path
    facts: dict[str, Any]

    @cached_property
    def protocol(self) -> Protocol:
        return Protocol(self.facts["protocol"])

    @cached_property
    def subjects(self) -> dict[str, Subject]:
        return {facts["name"]: Subject.of(facts) for facts in self.facts["subjects"]}

    @cached_property
    def rows(self) -> dict[str, Row]:
        return {
            name: Row(name, templates.parsed(facts["method"], facts["graph"]), facts["dial"])
            for name, facts in self.facts["rows"].items()
        }

    def prompts(self, subject: str) -> list[str]:
        return self.protocol.facts["prompts"]["texts"]["live" if self.subjects[subject].live else "object"]

    def jobs(self) -> Iterator[Job]:
        """Jobs in an order that lets the server reuse what one subject's pictures share."""
        for row in self.rows.values():
            for name, subject in self.subjects.items():
                choices = self.protocol.inputs(name, len(subject.photos))
                for inputs in choices if row.template.references else choices[:1]:
                    for index in range(len(self.prompts(name))):
                        for picture in range(self.protocol.facts["images_per_prompt"]):
                            seed = self.protocol.seed(index, picture)
                            path = f"{row.name}/{name}/{_label(inputs)}/{index:02d}-{seed}"
                            yield Job(path, row.name, name, inputs, index, seed)

    def values(self, job: Job) -> dict[str, Any]:
        """Value of each slot."""
        subject, prompt = self.subjects[job.subject], self.prompts(job.subject)[job.prompt]
        row = self.rows[job.row]
        embedding = f"embedding:{subject.name}"
        photos = [uploaded(subject.photos[i].file, subject.photos[i].hash) for i in job.inputs]
        return {
            **{name: self.facts["files"].get(name, "") for name in ("checkpoint", "joint_checkpoint", *FOLDERS)},
            "lora": f"{subject.name}.safetensors",
            "prompt": prompt.replace(SLOT, subject.words),
            "class_prompt": prompt.replace(SLOT, subject.noun),
            "embedding_prompt": prompt.replace(SLOT, embedding),
            "braced_prompt": prompt.replace(SLOT, "{" + subject.noun + "}"),
            "neutral_prompt": NEUTRAL.replace(SLOT, subject.words),
            "class_neutral_prompt": NEUTRAL.replace(SLOT, subject.noun),
            "words": subject.words,
            "class": subject.noun,
            "subject": subject.name,
            "seed": job.seed,
            "dial": row.template.dial if row.dial is None else row.dial,
            **dict(zip(REFERENCES, photos, strict=False)),
            **{name: value for name, value in self.protocol.sampling.items() if name != "seed"},
        }

    def graph(self, job: Job) -> Graph:
        return self.rows[job.row].template.filled(self.values(job))

    def key(self, job: Job) -> str:
        """Sixteen hexadecimal digits of everything that makes the picture: its graph, photos and weights."""
        hashes = {slot: self.facts["weights"].get(slot, "") for slot in sorted(self.rows[job.row].template.names)}
        own = {slot: of.get(job.subject, "") if isinstance(of, dict) else of for slot, of in hashes.items()}
        return key_of(self.graph(job), {slot: known for slot, known in own.items() if known})

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "plan.json", self.facts)
        lines = [json.dumps({"name": job.name, "key": self.key(job), "seed": job.seed}) for job in self.jobs()]
        part = self.folder / "jobs.jsonl.part"
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        part.replace(self.folder / "jobs.jsonl")


def _label(inputs: Sequence[int]) -> str:
    return "+".join(map(str, inputs)) or "none"


def uploaded(file: str, content_hash: str) -> str:
    """Name of a photo among the server's inputs."""
    return f"likeness-{content_hash}{Path(file).suffix.lower()}"


def read(folder: Path) -> Plan:
    """Plan of a folder. Raises Problem."""
    try:
        facts = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Problem(f"{folder} has no plan.json: make it with `run.py evaluate plan --out {folder}`.") from error
    except ValueError as error:
        raise Problem(f"{folder / 'plan.json'} is broken ({error}): plan again into another folder.") from error
    if facts.get("format") != FORMAT:
        raise Problem(
            f"{folder} was planned in format {facts.get('format')}, and this version reads {FORMAT}: plan again into "
            "another folder."
        )
    return Plan(folder, facts)


def make(
    out: Path,
    protocol: Protocol,
    *,
    data: Path,
    methods: Sequence[str],
    dials: Mapping[str, Sequence[float]],
    files: Mapping[str, str],
    weights: Mapping[str, Any],
    folders: Mapping[str, str],
    only: Sequence[str] = (),
    replace: Mapping[str, str] | None = None,
    separate: Separate | None = None,
) -> Plan:
    """Plan of these methods on the subjects in `data`; nothing is written.

    files: names of the checkpoints for the slots. weights: hash of a slot's file, or of each subject's. folders:
    places of weights for our own server. replace: node classes to exchange. separate: files in place of a checkpoint.
    Raises Problem.
    """
    if not methods:
        raise Problem("--methods names no method: name one or more, such as vanilla,lora.")
    found = subjects.read(data, only)
    rows: dict[str, dict[str, Any]] = {}
    for method in methods:
        template = templates.load(method)
        for dial in dials.get(template.name, (None,)):
            if dial is not None and template.dial is None:
                raise Problem(f"The method {template.name} has no dial: leave {template.name} out of --dials.")
            name = template.name if dial is None else f"{template.name}@{dial:g}"
            graph = {
                key: {**node, "class_type": (replace or {}).get(node["class_type"], node["class_type"])}
                for key, node in template.graph.items()
            }
            graph = graph if separate is None else separate.graph(graph, bundled=not templates.is_own(method))
            if name in rows:
                raise Problem(f"--methods gives {name} twice: leave one out, or give your own file another name.")
            rows[name] = {"method": template.name, "dial": dial, "graph": graph}
            _check_photos(template, protocol)
    if unknown := set(dials) - {facts["method"] for facts in rows.values()}:
        raise Problem(f"--dials names {', '.join(sorted(unknown))}, which --methods lacks: add or leave them out.")
    texts = subjects.prompts(protocol, data)
    facts = {
        "format": FORMAT,
        "protocol": {**protocol.facts, "prompts": {**protocol.facts["prompts"], "texts": texts}},
        "rows": rows,
        "subjects": [subject.as_dict() for subject in found],
        "files": dict(files),
        "weights": dict(weights),
        "folders": dict(folders),
    }
    plan = Plan(out, json.loads(json.dumps(facts)))
    _check_folder(plan)
    for subject in found:
        protocol.inputs(subject.name, len(subject.photos))
    return plan


def _check_photos(template: Template, protocol: Protocol) -> None:
    given = protocol.facts["inputs"]["count"]
    if template.references > given:
        raise Problem(
            f"The method {template.name} takes {template.references} photos, and the protocol {protocol.name} gives "
            f"{given}: use another method or protocol."
        )
    if 1 <= template.references < given:
        raise Problem(
            f"The protocol {protocol.name} gives {given} photos, and the method {template.name} takes "
            f"{template.references}: use a method with the slots {', '.join(REFERENCES[:given])}."
        )


def _check_folder(plan: Plan) -> None:
    """Raises Problem for a folder that holds the pictures of another protocol."""
    if not (plan.folder / "plan.json").exists():
        return
    before = read(plan.folder).protocol
    if before.hash != plan.protocol.hash:
        raise Problem(
            f"{plan.folder} holds the protocol {before.title}, and this is {plan.protocol.title}: their pictures "
            "cannot share a table, so name another folder."
        )
