"""`run.py demo`: one picture from a real ComfyUI, made with the shipped workflows, beside the personalized model
alone."""

from __future__ import annotations

import argparse
import io
import json
import os
import time
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
    parser = argparse.ArgumentParser(prog="run.py demo", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("likeness_demo"), help="folder for picture.png and report.json"
    )
    bundled = vars(parser.parse_args([])).keys()
    add_arguments(parser)
    options, defaults = parser.parse_args(arguments), vars(parser.parse_args([]))
    if any(value != defaults[name] for name, value in vars(options).items() if name not in bundled):
        _with_own_files(options)
        return
    started = time.monotonic()
    try:
        eye = judge.Judge.load()  # fail before the slow part
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"demo: {error}") from error
    try:
        with Host(Path(os.environ["COMFYUI_PATH"])) as host:
            print(f"ComfyUI is up after {time.monotonic() - started:.0f} s", flush=True)
            rows = [_run(host.client, eye, subject, place) for subject, place in SCENES]
    except (HostError, *FAILURES) as error:
        raise SystemExit(f"demo: {error}") from error
    report = {
        "seconds": round(time.monotonic() - started, 1),
        "rows": [r["numbers"] for r in rows],
        "mean": _means(rows),
    }
    picture, text = options.output / "picture.png", options.output / "report.json"
    with replacing(picture) as temporary:
        compose(rows, report["mean"]).save(temporary, format="PNG")
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


def _run(client: Client, eye: judge.Judge, name: str, place: str) -> dict:
    """Runs the workflows for one subject in one place; returns pictures by column and the judge's numbers."""

    def show(progress: Progress) -> None:
        if progress.maximum and progress.value == progress.maximum:
            print(f"  {name} {PLACE_PHRASES[place]}: {progress.kind} {progress.value}/{progress.maximum}", flush=True)

    wanted = (REFERENCES, *COLUMNS)
    results = {
        workflow: client.run(_prompt(workflow, name, place), show)
        for workflow in dict.fromkeys(c.workflow for c in wanted)
    }
    pictures = {column: _fetch(client, results[column.workflow].images(column.node)) for column in wanted}
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
        "title": f'"a {SUBJECTS[name].subject.name} {PLACE_PHRASES[place]}"',
        "pictures": pictures,
        "numbers": numbers,
    }


def _prompt(workflow: str, name: str, place: str) -> Prompt:
    """Loads a shipped workflow and sets its subject, place, seeds and batch size."""
    prompt: Prompt = json.loads((WORKFLOWS / f"{workflow}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
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
    return prompt


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
