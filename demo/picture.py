"""`run.py demo`: one picture from a real ComfyUI, made with the shipped workflows, beside the personalized model
alone."""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import judge
from .launcher.client import FAILURES, Client, Progress, Prompt
from .launcher.files import Problem, replacing
from .launcher.host import PACK, Host, HostError
from .own.arguments import add_arguments
from .world.captions import PLACE_PHRASES
from .world.subjects import SUBJECTS

WORKFLOWS = PACK / "workflows" / "api"
SCENES = (("nemo", "sea"), ("taxi", "city"))
SEED, SEEDS = 7, 3


class Column(NamedTuple):
    """Group of pictures: the images that one node of a workflow shows. The first column holds the subject's own
    pictures."""

    workflow: str
    node: str
    title: str


REFERENCES = Column("layout_and_retouch", "24", "pictures of the subject")
# The titles are keys of report.json, so their spelling stays.
BASELINE = Column("layout_and_retouch", "23", "the personalised model alone")
COLUMNS = (
    BASELINE,
    Column("layout_and_retouch", "10", "Layout-and-Retouch, stage 1: step-blended"),
    Column("layout_and_retouch", "20", "Layout-and-Retouch, stage 2: retouched"),
    Column("pick_and_draw", "20", "Pick-and-Draw: guided"),
    Column("jedi", "11", "JeDi: three pictures, nothing personalised"),
)
_INK, _GRAY, _GOOD = (30, 30, 36), (110, 110, 120), (22, 110, 60)


def main(arguments: list[str]) -> None:
    run(parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="run.py demo", description=__doc__, allow_abbrev=False)  # `run.py` seeks --ray
    made.add_argument(
        "--output", type=Path, default=Path("likeness_demo"), help="folder for picture.png and report.json"
    )
    add_arguments(made)
    return made


def has_own_files(options: argparse.Namespace) -> bool:
    """True where an option for the user's own files was given."""
    own = argparse.ArgumentParser()
    add_arguments(own)
    return any(getattr(options, name) != value for name, value in vars(own.parse_args([])).items())


def run(options: argparse.Namespace) -> None:
    """Draws the demo's scenes on one ComfyUI, or the user's own files."""
    if has_own_files(options):
        _with_own_files(options)
        return
    started = time.monotonic()
    eye = load_judge()  # fail before the slow part
    try:
        with Host(Path(os.environ["COMFYUI_PATH"])) as host:
            print(f"ComfyUI is up after {time.monotonic() - started:.0f} s", flush=True)
            rows = [judged(eye, name, place, _drawn(host.client, name, place)) for name, place in SCENES]
    except (HostError, *FAILURES) as error:
        raise SystemExit(f"demo: {error}") from error
    write(options.output, rows, time.monotonic() - started)


def load_judge() -> judge.Judge:
    try:
        return judge.Judge.load()
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"demo: {error}") from error


def write(
    output: Path,
    rows: list[dict],
    seconds: float,
    composing: Callable[[list[dict], dict[str, dict[str, float]]], Image.Image] | None = None,
) -> None:
    """Writes the picture and the report, and prints the means. composing: layout in place of `compose`."""
    report = {"seconds": round(seconds, 1), "rows": [r["numbers"] for r in rows], "mean": _means(rows)}
    picture, text = output / "picture.png", output / "report.json"
    with replacing(picture) as temporary:
        (composing or compose)(rows, report["mean"]).save(temporary, format="PNG")
    with replacing(text) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, numbers in report["mean"].items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.2f}" for metric, value in numbers.items()))
    print(f"picture: {picture.resolve()}\nreport:  {text.resolve()}", flush=True)


def _with_own_files(options: argparse.Namespace) -> None:
    if not options.checkpoint:
        raise SystemExit("demo: expected --checkpoint FILE with options for your own files, got none: give one.")
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()  # ComfyUI's modules look for a device when they are imported
    from .own import command

    try:
        command.main(options)
    except Problem as error:
        raise SystemExit(f"demo: {error}") from error


def nodes() -> dict[str, list[str]]:
    """Nodes whose pictures are shown, by workflow."""
    wanted = (REFERENCES, *COLUMNS)
    return {w: [c.node for c in wanted if c.workflow == w] for w in dict.fromkeys(c.workflow for c in wanted)}


def _drawn(client: Client, name: str, place: str) -> dict[Column, np.ndarray]:
    """Runs the workflows for one subject in one place; returns the pictures by column."""

    def show(progress: Progress) -> None:
        if progress.maximum and progress.value == progress.maximum:
            print(f"  {name} {PLACE_PHRASES[place]}: {progress.kind} {progress.value}/{progress.maximum}", flush=True)

    results = {workflow: client.run(prompt(workflow, name, place), show) for workflow in nodes()}
    return {c: _fetch(client, results[c.workflow].images(c.node)) for c in (REFERENCES, *COLUMNS)}


def judged(eye: judge.Judge, name: str, place: str, pictures: dict[Column, np.ndarray]) -> dict:
    """Row of the picture, with the judge's numbers by column."""
    references = eye.look(pictures[REFERENCES])
    numbers = {}
    for column in COLUMNS:
        seen = eye.look(pictures[column])
        right = judge.prompt_accuracy(
            seen, [{"class": SUBJECTS[name].subject.name, "place": place}] * len(pictures[column])
        )
        numbers[column.title] = {
            "identity": float(np.mean(judge.identity(seen, references))),
            "prompt": float(np.mean(right)),
            "layout": float(judge.layout_spread(seen)),
        }
    return {
        "subject": name,
        "title": f'"a {SUBJECTS[name].subject.name} {PLACE_PHRASES[place]}"',
        "pictures": pictures,
        "numbers": numbers,
    }


def prompt(workflow: str, name: str, place: str) -> Prompt:
    """Loads a shipped workflow and sets its subject, place, seeds and batch size."""
    loaded: Prompt = json.loads((WORKFLOWS / f"{workflow}.json").read_text(encoding="utf-8"))
    for node in loaded.values():
        if node["class_type"] == "LikenessDemoSubject":
            node["inputs"]["subject"] = name
            if node["inputs"]["scene"]:
                node["inputs"]["scene"] = PLACE_PHRASES[place]
        if node["class_type"] == "LikenessPromptList":
            node["inputs"]["text"] = "\n".join([PLACE_PHRASES[place]] * SEEDS)
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"]["batch_size"] = SEEDS
        if "seed" in node["inputs"]:
            node["inputs"]["seed"] = SEED
    return loaded


def _fetch(client: Client, records: list[dict]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(client.image(r))).convert("RGB")) for r in records])


def _means(rows: list[dict]) -> dict[str, dict[str, float]]:
    return {
        column.title: {
            metric: float(np.mean([r["numbers"][column.title][metric] for r in rows]))
            for metric in ("identity", "prompt", "layout")
        }
        for column in COLUMNS
    }


def compose(rows: list[dict], means: dict[str, dict[str, float]]) -> Image.Image:
    """Composes references, personalized model alone, and each method; one row per prompt, mean scores under each
    heading."""
    side, gap, group_gap, margin, head, line = 128, 4, 28, 24, 102, 30
    groups = (REFERENCES, *COLUMNS)
    counts = [len(rows[0]["pictures"][column]) for column in groups]
    lefts, x = [], margin
    for count in counts:
        lefts.append(x)
        x += count * (side + gap) - gap + group_gap
    image = Image.new("RGB", (x - group_gap + margin, margin + head + len(rows) * (side + line) + margin), "white")
    draw = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(size=19), ImageFont.load_default(size=14)
    for column, left in zip(groups, lefts, strict=True):
        draw.text((left, margin), column.title, fill=_INK, font=large)
        if column.title in means:
            m = means[column.title]
            lines = (
                f"looks like the subject {m['identity']:.2f}",
                f"follows the prompt {m['prompt']:.0%}, layout varies {m['layout']:.2f}",
            )
            for i, words in enumerate(lines):
                draw.text((left, margin + 28 + 18 * i), words, fill=_GRAY if column == BASELINE else _GOOD, font=small)
    for i, row in enumerate(rows):
        top = margin + head + i * (side + line)
        draw.text((lefts[1], top - 20), row["title"], fill=_GRAY, font=small)
        for column, left in zip(groups, lefts, strict=True):
            for k, pixels in enumerate(row["pictures"][column]):
                image.paste(Image.fromarray(pixels), (left + k * (side + gap), top))
    return image
