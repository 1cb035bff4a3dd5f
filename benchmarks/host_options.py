"""Pictures of every method under ComfyUI's own options, beside those without an option."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..demo.launcher.client import FAILURES, Client, Prompt
from ..demo.launcher.host import Host
from .report import Report, Target

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows" / "api"
PLAIN = "demo_model"
METHODS = ("likeness_sampler", "layout_and_retouch", "jedi")
"""Workflows of the demo model: guidance by a palette, the retouch with its adaptive mask, and a set."""
MOST = {"steps": 6, "batch_size": 2, "switch_step": 2, "lambda_2": 3, "lambda_3": 3, "inversion_steps": 6}
TORCH = "--use-pytorch-cross-attention"
EXACT = {
    "again": (TORCH,),
    "--cache-none": (TORCH, "--cache-none"),
    "--cache-classic": (TORCH, "--cache-classic"),
    "--cache-lru 3": (TORCH, "--cache-lru", "3"),
    "--disable-smart-memory": (TORCH, "--disable-smart-memory"),
    "--deterministic": (TORCH, "--deterministic"),
}
"""Options that leave the arithmetic alone."""
ROUNDED = {
    "--use-split-cross-attention": ("--use-split-cross-attention",),
    "--use-quad-cross-attention": ("--use-quad-cross-attention",),
    "--force-channels-last": (TORCH, "--force-channels-last"),
    "--fast": (TORCH, "--fast"),
}
"""Options that change the order of sums."""
NARROW = {
    "--force-fp16": (TORCH, "--force-fp16"),
    "--bf16-unet": (TORCH, "--bf16-unet"),
    "--fp8_e4m3fn-unet": (TORCH, "--fp8_e4m3fn-unet"),
    "--fp16-intermediates": (TORCH, "--fp16-intermediates"),
}
"""Options that calculate or keep numbers with fewer bits."""
TARGETS = {
    "failed_runs": Target("at most", 0.0),
    "exact_difference": Target("at most", 0.0),
    "rounded_difference": Target("at most", 1.0),
}
NOTES = (
    "Each option starts a ComfyUI of its own, which draws each workflow of the demo model twice, with a run from "
    "another seed between. The columns are differences from the pictures without an option, in levels of 255: means "
    "over all pixels, of plain KSampler's workflow and of each method's.",
    "failed_runs: runs that end in an error, in a picture of one color, or differ between the first and the second "
    "time. exact_difference: largest difference of any pixel under the options that leave the arithmetic alone. "
    "rounded_difference: largest mean under those that change the order of sums. Those with fewer bits have no target: "
    "compare them with plain KSampler.",
    "--lowvram, --novram, --highvram and --gpu-only cannot be combined with --cpu, so they need a GPU.",
)

Pictures = list[np.ndarray]


def run(quick: bool) -> Report:
    """Runs all options. quick: one of each kind."""
    kinds = {"exact": EXACT, "rounded": ROUNDED, "narrow": NARROW}
    if quick:
        kinds = {kind: dict([*options.items()][1:2]) for kind, options in kinds.items()}
    usual, failed = drawn((TORCH,))
    rows, figures, said = [], {"exact_difference": 0.0, "rounded_difference": 0.0}, failed
    for kind, options in kinds.items():
        for name, arguments in options.items():
            found, failed = drawn(arguments)
            said += [f"{name}: {sentence}" for sentence in failed]
            means, largest = differences(usual, found)
            said += [f"{name}: {workflow}: another number of pictures" for workflow in found.keys() - means.keys()]
            rows.append({"name": name} | {workflow: [mean] for workflow, mean in means.items()})
            if kind != "narrow" and means:
                worst = largest if kind == "exact" else max(means.values())
                figures[f"{kind}_difference"] = max(figures[f"{kind}_difference"], worst)
            print(f"{name}: {means}", flush=True)
    return Report("host-options", rows, figures | {"failed_runs": float(len(said))}, TARGETS, (*NOTES, *said))


def drawn(arguments: tuple[str, ...]) -> tuple[dict[str, Pictures], list[str]]:
    """Pictures of each workflow in a ComfyUI with these arguments, and what failed."""
    # Without the host's own choice of attention, which is among the arguments here.
    with Host(Path(os.environ["COMFYUI_PATH"]), cpu=False, arguments=("--cpu", *arguments)) as host:
        return pictures(host.client, {name: shorter(name) for name in (PLAIN, *METHODS)})


def shorter(name: str) -> Prompt:
    """Workflow with few steps and pictures."""
    prompt: Prompt = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        given = {key: node["inputs"].get(key) for key in MOST}
        node["inputs"] |= {key: min(value, MOST[key]) for key, value in given.items() if isinstance(value, int)}
    return prompt


def pictures(client: Client, prompts: Mapping[str, Prompt]) -> tuple[dict[str, Pictures], list[str]]:
    """Pictures of each prompt, drawn again after a run from another seed, and a sentence on each that failed."""
    found: dict[str, Pictures] = {}
    failed = []
    for name, prompt in prompts.items():
        try:
            first, _, again = (run_of(client, one) for one in (prompt, reseeded(prompt), prompt))
        except (OSError, *FAILURES) as error:
            failed.append(f"{name}: {error}")
            continue
        found[name] = first
        if not first or any(picture.std() == 0 for picture in first):
            failed.append(f"{name}: a picture of one color")
        elif not alike(first, again):
            failed.append(f"{name}: another picture after a run from another seed")
    return found, failed


def run_of(client: Client, prompt: Prompt) -> Pictures:
    records = client.run(prompt).images()
    return [np.asarray(Image.open(io.BytesIO(client.image(record))).convert("RGB"), float) for record in records]


def alike(first: Pictures, second: Pictures) -> bool:
    """True for as many pictures, all bit-identical."""
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def reseeded(prompt: Prompt) -> Prompt:
    """The prompt with every seed one higher."""
    changed: Prompt = json.loads(json.dumps(prompt))
    for inputs, key, seed in _seeds(changed):
        inputs[key] = seed + 1
    return changed


def _seeds(prompt: Prompt) -> Iterator[tuple[dict[str, Any], str, int]]:
    for node in prompt.values():
        for key in ("seed", "noise_seed"):
            if isinstance(node["inputs"].get(key), int):
                yield node["inputs"], key, node["inputs"][key]


def differences(usual: Mapping[str, Pictures], found: Mapping[str, Pictures]) -> tuple[dict[str, float], float]:
    """Mean difference of each workflow's pictures, in levels of 255, and the largest of any pixel."""
    apart = {
        name: np.concatenate([np.abs(a - b).ravel() for a, b in zip(usual[name], found[name], strict=True)])
        for name in usual
        if usual[name] and len(usual[name]) == len(found.get(name, ()))
    }
    largest = max((float(values.max()) for values in apart.values()), default=0.0)
    return {name: float(values.mean()) for name, values in apart.items()}, largest
