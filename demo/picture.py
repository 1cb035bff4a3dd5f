"""`run.py demo`: one picture out of a real ComfyUI, through the shipped workflow, beside what the personalised model does alone."""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import judge
from .captions import PLACE_PHRASES
from .client import Client, Failed, Interrupted, Progress, Prompt, Rejected
from .host import PACK, Host, HostError
from .subjects import SUBJECTS

WORKFLOW = PACK / "workflows" / "api" / "layout_and_retouch.json"
SCENES = (("nemo", "sea"), ("amanita", "snow"), ("taxi", "city"))
COLUMNS = {
    "23": "the personalised model alone",
    "10": "step-blended: vanilla layout, personalised subject",
    "20": "retouched: the reference's look in that layout",
}
BASELINE = COLUMNS["23"]
REFERENCES = "24"
SEED = 7
_INK, _GREY, _GOOD = (30, 30, 36), (110, 110, 120), (22, 110, 60)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="run.py demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("likeness_demo"), help="folder for picture.png and report.json")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        with Host(Path(os.environ["COMFYUI_PATH"])) as host:
            print(f"ComfyUI is up after {time.monotonic() - started:.0f} s", flush=True)
            rows = [_run(host.client, subject, place) for subject, place in SCENES]
    except (HostError, Failed, Rejected, Interrupted, TimeoutError, ConnectionError) as error:
        raise SystemExit(f"demo: {error}") from error
    report = {"seconds": round(time.monotonic() - started, 1), "rows": [r["numbers"] for r in rows], "mean": _means(rows)}
    options.output.mkdir(parents=True, exist_ok=True)
    picture, text = options.output / "picture.png", options.output / "report.json"
    _write(picture, lambda path: compose(rows, report["mean"]).save(path, format="PNG"))
    _write(text, lambda path: path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8"))
    for name, numbers in report["mean"].items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.2f}" for metric, value in numbers.items()))
    print(f"picture: {picture.resolve()}\nreport:  {text.resolve()}", flush=True)


def _write(path: Path, save) -> None:
    temporary = path.with_name(path.name + ".tmp")
    save(temporary)
    temporary.replace(path)


def _run(client: Client, name: str, place: str) -> dict:
    """Runs the workflow for one subject in one place; pictures by column, and the judge's numbers."""
    prompt: Prompt = copy.deepcopy(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    for node in prompt.values():
        if node["class_type"] == "LikenessDemoSubject":
            node["inputs"] |= {"subject": name, "scene": PLACE_PHRASES[place]}
        if "seed" in node["inputs"]:
            node["inputs"]["seed"] = SEED

    def show(progress: Progress) -> None:
        if progress.maximum and progress.value == progress.maximum:
            print(f"  {name} {PLACE_PHRASES[place]}: {progress.kind} {progress.value}/{progress.maximum}", flush=True)

    result = client.run(prompt, show)
    pictures = {node: _fetch(client, result.images(node)) for node in (REFERENCES, *COLUMNS)}
    eye = judge.Judge.load()
    references = eye.look(pictures[REFERENCES])
    numbers = {}
    for node, title in COLUMNS.items():
        seen = eye.look(pictures[node])
        right = judge.prompt_accuracy(seen, [{"class": SUBJECTS[name].subject.name, "place": place}] * len(pictures[node]))
        numbers[title] = {
            "identity": float(np.mean(judge.identity(seen, references))),
            "prompt": float(np.mean(right)),
            "layout": float(judge.layout_spread(seen)),
        }
    return {"title": f'"a {SUBJECTS[name].subject.name} {PLACE_PHRASES[place]}"', "pictures": pictures, "numbers": numbers}


def _fetch(client: Client, records: list[dict]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(client.image(r))).convert("RGB")) for r in records])


def _means(rows: list[dict]) -> dict[str, dict[str, float]]:
    return {
        title: {metric: float(np.mean([r["numbers"][title][metric] for r in rows])) for metric in ("identity", "prompt", "layout")}
        for title in COLUMNS.values()
    }


def compose(rows: list[dict], means: dict[str, dict[str, float]]) -> Image.Image:
    """references | personalised alone | step-blended | retouched, one row per prompt, the judge's means under each heading."""
    side, gap, group_gap, margin, head, line = 128, 4, 28, 24, 84, 30
    groups = [(REFERENCES, "four pictures of the subject"), *COLUMNS.items()]
    counts = [len(rows[0]["pictures"][node]) for node, _ in groups]
    lefts, x = [], margin
    for count in counts:
        lefts.append(x)
        x += count * (side + gap) - gap + group_gap
    image = Image.new("RGB", (x - group_gap + margin, margin + head + len(rows) * (side + line) + margin), "white")
    draw = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(size=19), ImageFont.load_default(size=14)
    for (_, title), left in zip(groups, lefts, strict=True):
        draw.text((left, margin), title, fill=_INK, font=large)
        if title in means:
            m = means[title]
            words = f"looks like the subject {m['identity']:.2f}   follows the prompt {m['prompt']:.0%}   layout varies {m['layout']:.2f}"
            draw.text((left, margin + 28), words, fill=_GREY if title == BASELINE else _GOOD, font=small)
    for i, row in enumerate(rows):
        top = margin + head + i * (side + line)
        draw.text((lefts[1], top - 20), row["title"], fill=_GREY, font=small)
        for (node, _), left in zip(groups, lefts, strict=True):
            for k, pixels in enumerate(row["pictures"][node]):
                image.paste(Image.fromarray(pixels), (left + k * (side + gap), top))
    return image
