"""Draws one strip per paper over the dial of Likeness Sampler, from the shipped workflows, in a real ComfyUI:

    COMFYUI_PATH=... python docs/draw_dials.py [NAME ...] [--out FOLDER]

The first picture is the photograph, the others are drawn from one noise. Nothing is chosen: it is the workflow's seed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
STRIPS = {
    "pick-and-draw": "likeness_sampler",
    "layout-and-retouch": "likeness_sampler_retouch",
    "jedi": "likeness_sampler_joint",
}
"""Workflow of each strip, dial-NAME.jpg."""
VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)
SAMPLER, VAE, PHOTO = "LikenessSampler", "VAEDecode", "ImageFromBatch"
SIDE, GAP, LINE, FONT, QUALITY = 192, 4, 24, 15, 88
INK = (70, 70, 78)

Prompt = dict[str, dict[str, Any]]


def graph(name: str) -> tuple[Prompt, list[str]]:
    """One prompt that draws a strip, and the nodes that show its pictures: the photograph, then each value."""
    path = ROOT / "workflows" / "api" / f"{STRIPS[name]}.json"
    prompt: Prompt = json.loads(path.read_text(encoding="utf-8"))
    number = {node["class_type"]: key for key, node in prompt.items()}
    for node in prompt.values():
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"]["batch_size"] = 1
    sampler, decoder = prompt.pop(number[SAMPLER])["inputs"], prompt.pop(number[VAE])["inputs"]
    del prompt[number["SaveImage"]]
    shown = {"photo": [number[PHOTO], 0]}
    for value in VALUES:
        drawn, decoded = f"{value:g}.drawn", f"{value:g}.decoded"
        prompt[drawn] = {"class_type": SAMPLER, "inputs": {**sampler, "likeness": value}}
        prompt[decoded] = {"class_type": VAE, "inputs": {**decoder, "samples": [drawn, 0]}}
        shown[f"{value:g}"] = [decoded, 0]
    for key, link in shown.items():
        prompt[f"{key}.shown"] = {"class_type": "PreviewImage", "inputs": {"images": link}}
    return prompt, [f"{key}.shown" for key in shown]


def composed(pictures: list[Image.Image]) -> Image.Image:
    """The photograph and the pictures beside each other, with the dial's values below."""
    labels = ["photo", *(f"likeness {value:g}" for value in VALUES)]
    canvas = Image.new("RGB", (len(pictures) * (SIDE + GAP) - GAP, SIDE + LINE), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x = index * (SIDE + GAP)
        canvas.paste(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, 0))
        pen.text((x + SIDE / 2, SIDE + LINE / 2), label, INK, font, anchor="mm")
    return canvas


def main(options: argparse.Namespace) -> None:
    comfyui = Path(os.environ["COMFYUI_PATH"])
    runpy.run_path(str(ROOT / "demo" / "launcher" / "launch.py"))["alias_pack"](comfyui)
    from likeness.demo.launcher.host import Host

    options.out.mkdir(parents=True, exist_ok=True)
    with Host(comfyui) as host:
        for name in options.names or STRIPS:
            prompt, shown = graph(name)
            result = host.client.run(prompt, timeout=24 * 3600)
            files = [host.client.image(result.images(node)[0]) for node in shown]
            path = options.out / f"dial-{name}.jpg"
            composed([Image.open(io.BytesIO(file)) for file in files]).save(path, quality=QUALITY)
            print(path, path.stat().st_size, flush=True)


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draws the dials of the three papers.")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*STRIPS, []], help="strips; none: all")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the pictures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parsed(sys.argv[1:]))
