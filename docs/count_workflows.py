"""Writes the table of goals into README.md: what each shipped workflow has beyond plain text-to-image.

python docs/count_workflows.py
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
START, END = "<!-- goals -->\n", "<!-- end of goals -->"
FILES_AND_TEXTS = ("ckpt_name", "lora_name", "image", "text", "prefix", "token")
"""Widgets that a person fills, if the workflow ships them with a value."""
REPEATED = (
    "seed",
    "steps",
    "cfg",
    "sampler",
    "sampler_name",
    "scheduler",
    "denoise",
    "text",
    "word",
    "token",
    "prefix",
)
"""Widgets that mean the same in every node."""
GOALS = {
    "LoRA in new layouts": "1 Draw a LoRA or DreamBooth subject in new layouts (SD 1.5)",
    "one photo -> picture": "2 Use one photo like IPAdapter, without training (SD 1.5)",
    "three photos -> picture": "3 Draw the same subject from three photos (SD 1.5)",
    "photo -> story of four scenes": "4 Draw a consistent character in four scenes (SD 1.5)",
    "subject where I draw": "5 Put the subject where you draw (SD 1.5)",
    "textual inversion": "6 Add a photo to a textual inversion (SD 1.5)",
    "second, larger pass": "8 Refine in a second pass (SD 1.5)",
    "batch of prompts": "9 Draw a batch of prompts (SD 1.5)",
}
EXPERT = {
    "LoRA in new layouts, from expert nodes": ("layout_and_retouch_paper", "likeness/paper_retouched"),
    "photo -> picture, from expert nodes": ("pick_and_draw", "likeness/guided"),
}
"""Workflows of the demo with the picture that counts, by the prefix of its file's name."""
TEXT_TO_IMAGE = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a photo of a dog"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "5": {
        "class_type": "KSampler",
        "inputs": {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0], "seed": 7},
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0]}},
}
"""ComfyUI's own first workflow."""


def count(prompt: dict[str, dict[str, Any]]) -> tuple[int, int, int, int]:
    """Nodes, links, widgets to fill, and widgets that must agree with another one, of an API-format prompt."""
    demo = {number for number, node in prompt.items() if node["class_type"] == "LikenessDemoSubject"}
    inputs = [
        # The demo's subject gives texts that a person writes.
        (name, str(value) if isinstance(value, list) and value[0] in demo and value[1] > 1 else value)
        for node in prompt.values()
        for name, value in node["inputs"].items()
    ]
    widgets = [(name, value) for name, value in inputs if not isinstance(value, list)]
    filled = sum(name in FILES_AND_TEXTS and value != "" for name, value in widgets)
    repeated = Counter(
        (name.removesuffix("_name"), value) for name, value in widgets if name in REPEATED and value != ""
    )
    return len(prompt), len(inputs) - len(widgets), filled, sum(number for number in repeated.values() if number > 1)


def upstream(prompt: dict[str, dict[str, Any]], prefix: str) -> dict[str, dict[str, Any]]:
    """The part of a prompt that the picture with this prefix needs."""
    wanted = [number for number, node in prompt.items() if node["inputs"].get("filename_prefix") == prefix]
    if not wanted:
        raise ValueError(f"no node saves {prefix}")
    kept: dict[str, dict[str, Any]] = {}
    while wanted:
        number = wanted.pop()
        kept[number] = prompt[number]
        wanted += [value[0] for value in prompt[number]["inputs"].values() if isinstance(value, list)]
    return kept


def table() -> str:
    """The table in Markdown."""
    plain = count(TEXT_TO_IMAGE)[0]
    lines = [
        "| goal | nodes | more than text-to-image | links | files and texts to fill | widgets that repeat another |",
        "|---|---|---|---|---|---|",
    ]
    rows = {"text to image, for comparison": TEXT_TO_IMAGE}
    for goal, name in GOALS.items():
        rows[goal] = _api(name)
    for goal, (name, prefix) in EXPERT.items():
        rows[goal] = upstream(_api(name), prefix)
    for goal, prompt in rows.items():
        nodes, links, filled, agree = count(prompt)
        lines.append(f"| {goal} | {nodes} | {nodes - plain} | {links} | {filled} | {agree} |")
    return "\n".join(lines) + "\n"


def _api(name: str) -> dict[str, dict[str, Any]]:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def written(text: str) -> str:
    """The README with the table between its marks."""
    before, rest = text.split(START)
    return before + START + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
