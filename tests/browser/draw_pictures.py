"""Draws the small picture beside each workflow of the template browser: the same graph with the demo model in place of
the files.

COMFYUI_PATH=... python tests/browser/draw_pictures.py [WORDS OF A NAME]
"""

from __future__ import annotations

import io
import os
import runpy
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
SIDE, GAP, LETTERS = 192, 4, 26
PICTURES = 4


def main(words: str) -> None:
    comfyui = Path(os.environ["COMFYUI_PATH"])
    runpy.run_path(str(ROOT / "demo" / "launcher" / "launch.py"))["alias_pack"](comfyui)
    from likeness.demo.launcher.host import Host
    from likeness.tests.browser.graphs import files, shipped

    with Host(comfyui) as host:
        object_info = host.client.object_info()
        for make in (*shipped.MAKERS, shipped.new_scenes):
            names = [make(family()).name for family in files.REAL] if make in shipped.MAKERS else []
            names += [shipped.TRY[make]] if make in shipped.TRY else []
            goals = [goal for goal, other in shipped.OF_TRANSFORMERS.items() if other is make]
            names += [graph.name for graph in shipped.of_transformers() if graph.name.endswith(tuple(goals or "-"))]
            if not any(words in name for name in names):
                continue
            prompt = make(files.demo()).api(object_info)
            if len({"LikenessPromptList", "BatchLatentsNode"} & {node["class_type"] for node in prompt.values()}) == 0:
                for node in prompt.values():
                    if node["class_type"] == "EmptyLatentImage":
                        node["inputs"]["batch_size"] = PICTURES
            records = host.client.run(prompt, timeout=1200).images()
            drawn = [Image.open(io.BytesIO(host.client.image(record))).convert("RGB") for record in records]
            picture = composed([given(), *drawn[:PICTURES]])
            for name in names:
                picture.save(ROOT / "workflows" / f"{name}.jpg", quality=85)
                print(name, flush=True)


def given() -> Image.Image:
    """The photo that the graphs get."""
    with Image.open(ROOT / "demo" / "weights" / "subjects" / "nemo.png") as strip:
        return strip.convert("RGB").crop((0, 0, strip.height, strip.height))


def composed(pictures: list[Image.Image]) -> Image.Image:
    """The given photo on the left and the drawn pictures in rows of two.

    The words under the photo say who drew them, in letters that are read on a card of a third of this size.
    """
    place = SIDE + GAP
    canvas = Image.new("RGB", (3 * place - GAP, 2 * place - GAP), "white")
    canvas.paste(pictures[0].resize((SIDE, SIDE), Image.Resampling.LANCZOS), (0, place // 2))
    for index, picture in enumerate(pictures[1:]):
        spot = ((index % 2 + 1) * place, index // 2 * place)
        canvas.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), spot)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(LETTERS)
    pen.text((SIDE / 2, place // 2 - 8), "photo", fill="black", font=font, anchor="md")
    words = "right: drawn by\nthe demo model"
    pen.text((SIDE / 2, place // 2 + SIDE + 8), words, fill="black", font=font, anchor="ma", align="center")
    return canvas


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
