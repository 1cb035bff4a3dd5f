"""`run.py demo --checkpoint FILE`: the methods side by side on the user's own checkpoint and photographs."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import time
from pathlib import Path

import torch
from PIL import Image, ImageOps

from ..launcher.client import FAILURES, Client, Progress
from ..launcher.files import Problem, replacing
from ..launcher.host import Host, HostError, prepare
from ..launcher.serve import has_gpu
from . import graphs
from .checkpoint import Checkpoint, open_checkpoint
from .lora import check_lora
from .photos import photos_in
from .sheet import Column, compose, thumbnail

TIMEOUT = 24 * 3600.0
MOST_CFG = 100
"""The largest scale that ComfyUI's samplers take."""
_AN = re.compile(r"(?!eu|ewe|once?\b|one-|u[bkst][aeiou]|uni(?!n)|ur[aeiou])[aeiou]|hour|heir|hono", re.IGNORECASE)
"""Beginnings of words that take "an"."""
TITLES = {
    graphs.BLENDED: "Layout-and-Retouch, stage 1",
    graphs.RETOUCH: "Layout-and-Retouch, stage 2",
    graphs.PALETTE: "Pick-and-Draw, guided",
    graphs.JOINT: "JeDi, training-free",
}


def main(options: argparse.Namespace) -> None:
    """Makes the sheet and its report. Raises Problem before ComfyUI starts for what cannot be used."""
    started = time.monotonic()
    if not options.photos or not options.subject:
        raise Problem("expected --photos FOLDER and --subject WORD beside --checkpoint: give both.")
    for name, least in (("steps", 2), ("pictures", 1), ("size", 64), ("seed", 0)):
        if (value := getattr(options, name)) is not None and value < least:
            raise Problem(f"expected {least} or more for --{name}, got {value}: give a larger number.")
    if not 0 <= options.cfg <= MOST_CFG:  # neither holds for nan
        raise Problem(f"expected 0 to {MOST_CFG} for --cfg, got {options.cfg:g}: give a number of that range.")
    checkpoint, paths = open_checkpoint(options.checkpoint), photos_in(options.photos)
    if options.lora:
        check_lora(options.lora, checkpoint)
    methods, text = chosen_methods(options), in_braces(options.prompt, options.subject)
    gpu = has_gpu() and not options.cpu
    side = (options.size or checkpoint.family.side) // 8 * 8
    announce(checkpoint, len(paths), methods, options, side, gpu)
    try:
        with Host(Path(os.environ["COMFYUI_PATH"]), cpu=not gpu, ready_within=600, setup=setup(options)) as host:
            print(f"ComfyUI is up after {time.monotonic() - started:.0f} s", flush=True)
            wish = graphs.Wish(
                checkpoint=checkpoint.path.name,
                photos=place_photos(paths, host.base / "input", min(side, checkpoint.family.side)),
                text=text,
                token=options.token,
                width=side,
                height=side,
                lora=options.lora.name if options.lora else "",
                negative=options.negative,
                pictures=options.pictures,
                seed=options.seed,
                steps=options.steps,
                cfg=options.cfg,
                fit="own size" if side < checkpoint.family.side else "training resolution",
            )
            columns = [Column("your photographs", f"{len(paths)} of {options.photos.name}", thumbnails(paths))]
            seconds = {}
            for method in (graphs.ALONE, *methods):
                begun = time.monotonic()
                pictures = run(host.client, method, wish)
                seconds[method] = round(time.monotonic() - begun, 1)
                title = TITLES.get(method, f"the {'personalized' if options.lora else 'plain'} model alone")
                columns.append(Column(title, f"{seconds[method]:.0f} s", pictures))
                write(options.output, wish, columns, seconds)
    except (HostError, *FAILURES) as error:
        raise Problem(str(error)) from error
    print(f"picture: {(options.output / 'picture.png').resolve()}", flush=True)


def chosen_methods(options: argparse.Namespace) -> list[str]:
    """Methods that are asked for, or all that the files allow. Raises Problem if one needs a LoRA."""
    if options.method:
        needing = [name for name in options.method if name in graphs.NEEDS_LORA]
        if needing and not options.lora:
            raise Problem(
                f"expected --lora FILE for --method {needing[0]}, got none: give one, or choose palette or joint."
            )
        return list(dict.fromkeys(options.method))
    return [name for name in graphs.METHODS if options.lora or name not in graphs.NEEDS_LORA]


def in_braces(prompt: str | None, subject: str) -> str:
    """The prompt with the subject and its article in braces, as Subject Prompt reads it."""
    prompt = prompt or f"a photo of {'an' if _AN.match(subject) else 'a'} {subject} on the beach"
    if "{" in prompt or "}" in prompt:
        return prompt
    found = re.search(rf"\b((?:an?|the|my|one)\s+)?{re.escape(subject)}\b", prompt, re.IGNORECASE)
    if not found:
        raise Problem(f"expected the word '{subject}' in --prompt, got '{prompt}': add it, or change --subject.")
    return f"{prompt[: found.start()]}{{{found.group()}}}{prompt[found.end() :]}"


def announce(
    checkpoint: Checkpoint, photos: int, methods: list[str], options: argparse.Namespace, side: int, gpu: bool
) -> None:
    """Says what is about to run, its size and roughly its time."""
    family, gigabytes = checkpoint.family, checkpoint.path.stat().st_size / 1e9
    device = "GPU" if gpu else "CPU"
    print(f"{checkpoint.path.name}: {family.name}, {gigabytes:.1f} GB; {photos} photographs", flush=True)
    minutes = calls(methods, options, photos) * family.tera * (side / family.side) ** 2 / tera_per_second(gpu) / 60
    names = ", ".join(["the model alone", *methods])
    print(
        f"{options.pictures} pictures of {side}x{side} pixels in {options.steps} steps for each of: {names}. On the "
        f"{device} roughly {minutes:.0f} minutes; Ctrl-C stops, and the sheet keeps what is done.",
        flush=True,
    )


def calls(methods: list[str], options: argparse.Namespace, photos: int) -> float:
    """Calls of the network for one picture each, forward ones; a gradient counts as three."""
    run = 2 * options.pictures * options.steps
    costs = {
        graphs.BLENDED: run,
        graphs.RETOUCH: 1.8 * run + 3 * options.steps,
        graphs.PALETTE: 2 * run + 0.7 * 1.5 * run + 2 * photos * options.steps,
        graphs.JOINT: run + 2 * min(4, photos) * options.steps,
    }
    return run + sum(costs[name] for name in methods)


def tera_per_second(gpu: bool) -> float:
    """Half of the speed of a large matrix product, in 10^12 operations per second."""
    device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
    side = 8192 if device == "cuda" else 1024
    a = torch.ones(side, side, device=device, dtype=torch.float16 if device == "cuda" else torch.float32)
    float((a @ a)[0, 0])
    started = time.monotonic()
    float((a @ a)[0, 0])
    return 0.5 * 2 * side**3 / max(1e-6, time.monotonic() - started) / 1e12


def setup(options: argparse.Namespace):
    """Makes a private base directory that knows the user's files where they are."""

    def make(base: Path) -> tuple[str, ...]:
        prepare(base)
        folders = {"is_default": True, "checkpoints": str(options.checkpoint.resolve().parent)}
        if options.lora:
            folders["loras"] = str(options.lora.resolve().parent)
        known = base / "models.yaml"  # JSON is YAML, too
        known.write_text(json.dumps({"yours": folders}, ensure_ascii=False), encoding="utf-8")
        return ("--extra-model-paths-config", str(known))

    return make


def place_photos(paths: list[Path], folder: Path, side: int) -> tuple[graphs.Photo, ...]:
    """Writes the photographs into ComfyUI's private input folder, no larger than a square of this side."""
    placed = []
    for index, path in enumerate(paths):
        with Image.open(path) as picture:
            turned = ImageOps.exif_transpose(picture)
            cut_out = turned.has_transparency_data and seen_through(turned)
            turned = turned.convert("RGBA" if cut_out else "RGB")
        scale = min(1.0, side / (turned.width * turned.height) ** 0.5)
        size = max(8, round(turned.width * scale / 8) * 8), max(8, round(turned.height * scale / 8) * 8)
        turned.resize(size, Image.Resampling.LANCZOS).save(folder / f"photo_{index}.png")
        placed.append(graphs.Photo(f"photo_{index}.png", cut_out))
    return tuple(placed)


def seen_through(picture: Image.Image) -> bool:
    """True for a picture with transparent pixels."""
    lowest = picture.convert("RGBA").getchannel("A").getextrema()[0]
    return isinstance(lowest, (int, float)) and lowest < 255


def thumbnails(paths: list[Path]) -> list[Image.Image]:
    return [thumbnail(path) for path in paths[:4]]


def run(client: Client, method: str, wish: graphs.Wish) -> list[Image.Image]:
    """Runs one method and shows its progress; returns its pictures."""
    shown = 0.0

    def show(progress: Progress) -> None:
        nonlocal shown
        done = progress.value == progress.maximum
        if progress.maximum and (done or time.monotonic() - shown > 10):
            shown = time.monotonic()
            print(f"  {method}: {progress.kind} {progress.value}/{progress.maximum}", flush=True)

    result = client.run(graphs.graph(method, wish), show, timeout=TIMEOUT)
    return [Image.open(io.BytesIO(client.image(record))).convert("RGB") for record in result.images(graphs.SAVE)]


def write(folder: Path, wish: graphs.Wish, columns: list[Column], seconds: dict[str, float]) -> None:
    """Writes the sheet and the report so far."""
    with replacing(folder / "picture.png") as temporary:
        compose(wish.text.replace("{", "").replace("}", ""), columns).save(temporary, format="PNG")
    facts = {"seconds": seconds, "prompt": wish.text, "token": wish.token, "checkpoint": wish.checkpoint}
    facts |= {"lora": wish.lora, "seed": wish.seed, "steps": wish.steps, "cfg": wish.cfg, "width": wish.width}
    with replacing(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
