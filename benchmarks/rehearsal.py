"""Every shipped workflow for real files, run over HTTP on files of their size and names with random weights."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..demo.launcher.client import FAILURES, Client, Prompt
from ..demo.launcher.files import read_json, write_json
from ..demo.launcher.host import Host, HostError, prepare
from ..demo.launcher.serve import has_gpu
from . import checkpoints, gpu, photos, rehearsal_prompts, transformer_files
from .kept import cache_folder
from .processes import PROCESSES, status_bytes
from .report import Report, Target, machine

GIB = 2**30
TIMEOUT = 7200.0
ON_A_CPU = ("--bf16-unet", "--bf16-vae")
"""Options of ComfyUI for large networks: weights take half the memory of float32, in which a CPU still computes."""
_COMPLAINTS = re.compile(r".*(?:lora key not loaded|not load|missing|unexpected|invalid value|left over keys).*", re.I)
_HARMLESS = re.compile(r"torchaudio|Failed to import|comfy-aimdo|comfy_kitchen|missing.*(?:xformers|triton)", re.I)
NOTES = (
    "Weights are random: the pictures show nothing. Key names, detection, text encoders, sizes, dtypes and memory are "
    "those of real files.",
    f"On a CPU the workflows are shortened to {rehearsal_prompts.SIDE} pixels, photographs included, and to "
    f"{rehearsal_prompts.STEPS} steps and {rehearsal_prompts.PICTURES} pictures, with SDXL's weights in bfloat16; on a "
    "GPU they run as they are shipped.",
    "Transformers, asked for with --only, have few blocks. For Z-Image, Krea 2 and Flux.2 a CLIP stands in for the "
    "language model, whose depth the host fixes; Flux.1's T5 takes 5 GiB of memory, Qwen-Image's encoder 7.",
    "The photographs have odd sizes; one is turned by a tag, one transparent, on a GPU one of 12 megapixels.",
    "passed: every output is a picture of finite, unequal pixels, and ComfyUI's log has no unknown or missing weights.",
    "seconds: of this run alone, in which other programs may have used the cores too.",
)

UNKNOWN = "peak GiB without a number: unknown, because the system does not tell a process's peak of memory."


@dataclass(frozen=True)
class Outcome:
    """End of one workflow.

    gib: peak of ComfyUI's resident memory, None where the system does not tell. wrong: what failed, empty if nothing
    did. said: texts that its nodes show.
    """

    seconds: float
    gib: float | None
    wrong: str
    said: str


@dataclass
class Outcomes:
    """Outcomes in a file, so that an interrupted rehearsal resumes: those that passed with the same graph and code."""

    file: Path

    def get(self, name: str, prompt: Prompt) -> Outcome | None:
        found = read_json(self.file).get(name, {})
        return Outcome(**found["outcome"]) if found.get("state") == self._state(prompt) else None

    def add(self, name: str, prompt: Prompt, outcome: Outcome) -> Outcome:
        if not outcome.wrong:
            known = read_json(self.file)
            write_json(self.file, known | {name: {"state": self._state(prompt), "outcome": asdict(outcome)}})
        return outcome

    @staticmethod
    def _state(prompt: Prompt) -> str:
        return hashlib.sha256(f"{gpu.code()} {machine()} {json.dumps(prompt)}".encode()).hexdigest()


def run(quick: bool, only: str = "") -> Report:
    """Runs the workflows whose names contain `only`. quick: those for SD 1.5 alone.

    Those of transformers, whose files are not of true size, run only if they are asked for.
    """
    rows: list[dict[str, Any]] = []
    figures: dict[str, float | None] = {}
    said: dict[str, dict[str, str]] = {}
    reduced = (checkpoints.SD35, *transformer_files.FAMILIES)
    whole = (checkpoints.SD15, checkpoints.SDXL, *(reduced if only else ()))
    for family in (checkpoints.SD15,) if quick else whole:
        prompts = {name: prompt for name, prompt in rehearsal_prompts.workflows(family).items() if only in name}
        outcomes = dict(rehearse(family, prompts))
        for name, outcome in outcomes.items():
            passed = float(not outcome.wrong)
            memory = {} if outcome.gib is None else {"peak GiB": [outcome.gib]}
            rows.append({"name": name, "passed": [passed], "seconds": [outcome.seconds], **memory})
            said[name] = {"wrong": outcome.wrong, "said": outcome.said}
        if outcomes:
            figures[f"{family}_passed"] = float(np.mean([not outcome.wrong for outcome in outcomes.values()]))
    failed = tuple(f"Failed: {name}: {found['wrong']}" for name, found in said.items() if found["wrong"])
    targets = {name: Target("at least", 1.0) for name in figures}
    unknown = () if all("peak GiB" in row for row in rows) else (UNKNOWN,)
    return Report("rehearsal", rows, figures, targets, NOTES + unknown + failed, entries={"said": said})


def prepare_files(family: str, wanted: set[str], base: Path, longest: int | None = None) -> None:
    """Makes the base directory of a private ComfyUI with the family's files and the pictures that are wanted.

    longest: side of the photographs in pixels, None for their own sizes.
    """
    prepare(base)
    models, made = base / "models", cache_folder() / "rehearsal" / "files"
    for folder, file, shapes in _files(family):
        # Families may have files of one name with other contents.
        path = made / family / file if family in transformer_files.FAMILIES else made / file
        if not path.is_file():
            print(f"rehearsal: makes {file}", flush=True)
            checkpoints.write(path, shapes())
        _link(path, models / folder / file)
    pictures = photos.write(base / "input", longest)
    for name in wanted - {path.name for path in pictures}:
        shutil.copy2(pictures[0], base / "input" / name)


def _files(family: str) -> tuple[transformer_files.File, ...]:
    if family in transformer_files.FAMILIES:
        return transformer_files.FAMILIES[family].files
    return (
        transformer_files.File("checkpoints", checkpoints.CHECKPOINTS[family], lambda: checkpoints.shapes(family)),
        transformer_files.File("loras", checkpoints.LORAS[family], lambda: checkpoints.lora_shapes(family)),
        transformer_files.File("embeddings", checkpoints.EMBEDDING, checkpoints.embedding_shapes),
    )


def rehearse(family: str, prompts: dict[str, Prompt]) -> Iterator[tuple[str, Outcome]]:
    """Runs workflows in one ComfyUI; yields the name and the outcome of each."""
    if not prompts:
        return
    base, on_gpu = cache_folder() / "rehearsal" / "comfyui", has_gpu()
    wanted = set().union(*map(rehearsal_prompts.pictures, prompts.values()))
    prompts = {name: p if on_gpu else rehearsal_prompts.shortened(p, family) for name, p in prompts.items()}
    kept = Outcomes(cache_folder() / "rehearsal" / "outcomes.json")
    done = {name: outcome for name, prompt in prompts.items() if (outcome := kept.get(name, prompt))}
    yield from done.items()
    if len(done) == len(prompts):
        return
    prepare_files(family, wanted, base, None if on_gpu else rehearsal_prompts.SIDE)
    large = family == checkpoints.SDXL or family in transformer_files.FAMILIES
    arguments = ON_A_CPU if large and not on_gpu else ()
    try:
        with Host(
            Path(os.environ["COMFYUI_PATH"]), base, cpu=not on_gpu, arguments=arguments, ready_within=600
        ) as host:
            for name, prompt in prompts.items():
                if name in done:
                    continue
                outcome = kept.add(name, prompt, _outcome(host, prompt))
                print(f"{name}: {outcome.wrong or 'passed'} ({outcome.seconds:.0f} s)", flush=True)
                yield name, outcome
    except HostError as error:
        raise ValueError(str(error)) from error


def _outcome(host: Host, prompt: Prompt) -> Outcome:
    started, read, memory = time.monotonic(), host.log.stat().st_size, PeakRam(host.pid)
    wrong, said = "", ""
    try:
        result = host.client.run(prompt, timeout=TIMEOUT)
        said = "\n".join(text for shown in result.outputs.values() for text in shown.get("text", ()))
        wrong = "; ".join(_faults(host.client, result.images()))
    except (OSError, *FAILURES) as error:
        wrong = " ".join(str(error).split())
    with host.log.open("rb") as log:
        log.seek(read)
        lines = log.read().decode("utf-8", "replace").splitlines()
    complaints = [line for line in lines if _COMPLAINTS.match(line) and not _HARMLESS.search(line)]
    wrong, peak = "; ".join(filter(None, [wrong, *complaints[:3]])), memory.peak()
    return Outcome(time.monotonic() - started, None if peak is None else peak / GIB, wrong, said)


def _faults(client: Client, records: list[dict[str, str]]) -> Iterator[str]:
    """Names pictures that are of one color, as those of numbers that are not finite are."""
    if not records:
        yield "made no picture"
    for record in records:
        pixels = np.asarray(Image.open(io.BytesIO(client.image(record))).convert("RGB"))
        if pixels.std() == 0:
            yield f"{record['filename']} is of one color"


class PeakRam:
    """Peak of a process's resident memory from now on, where the system counts it, as Linux does."""

    def __init__(self, pid: int, processes: Path = PROCESSES):
        self._pid, self._processes, self._counts = pid, processes, True
        try:
            (processes / str(pid) / "clear_refs").write_text("5", encoding="ascii")
        except OSError:  # another system, or no right to start the count anew
            self._counts = False

    def peak(self) -> float | None:
        """Bytes; None where the system does not tell."""
        return status_bytes(self._pid, "VmHWM", self._processes) if self._counts else None


def _link(source: Path, target: Path) -> None:
    """Makes a file known under another path without a copy where the system allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
