"""Check of everything that a plan needs, before anything is made: weights, nodes, files, and the endpoint's answer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...demo.launcher.files import Problem
from ...patching.evaluation import weights
from ...patching.evaluation.judge import JUDGE
from ..evaluate import eyes
from ..farm.servers import Server
from ..joint.build_sets import find_backgrounds
from . import makers, words
from .endpoint import Endpoint
from .plan import Plan
from .prompts import bank

FOLDERS = {
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "vae_name": "vae",
    "lora_name": "loras",
    "bg_removal_name": "background_removal",
    "control_net_name": "controlnet",
}
"""Folder of models by the input of a node that loads from it."""
KNOWN = {
    "sd_xl_base_1.0.safetensors": "SDXL, 6.9 GB, CreativeML Open RAIL++-M, huggingface.co/stabilityai",
    "sd-v1-5-inpainting.ckpt": "Stable Diffusion 1.5 Inpainting, 4.3 GB, CreativeML Open RAIL-M",
    "instruct-pix2pix-00-22000.safetensors": "InstructPix2Pix, 7.7 GB, MIT, huggingface.co/timbrooks/instruct-pix2pix",
    "sam3.safetensors": "SAM 3, 3.5 GB, SAM License (no military use; ask for access), huggingface.co/facebook/sam3",
    "birefnet.safetensors": "BiRefNet, about 0.4 GB, MIT, huggingface.co/Comfy-Org/BiRefNet",
    "qwen3vl_4b_fp8_scaled.safetensors": "Qwen3-VL 4B, about 5.2 GB, Apache-2.0, huggingface.co/Comfy-Org/Qwen3-VL",
}
"""Name, size and license of the bundled workflows' files, as their publishers state them.

Those of BiRefNet and Qwen3-VL follow from the sizes of folders that hold them.
"""


def models(stages: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Models of a plan by stage, with their licenses where they are known; every shard repeats them."""
    found = {}
    for name, stage in stages.items():
        files = [file for _, file in loaded(stage.get("graph", {}))]
        if stage["by"] == "endpoint":
            found[name] = f"{stage['model']} at an endpoint; its license is the user's to check"
        elif stage["by"] == "detector":
            found[name] = f"{stage['name']}, {weights.detector(stage['name']).license}; {stage['sam']}"
        elif stage["by"] == "blip2":
            found[name] = f"BLIP-2 in {Path(stage['path']).name} (license not known here)"
        elif name == "filter" and stage["network"] in weights.KNOWN:
            found[name] = f"{stage['network']}, {weights.named(stage['network']).license}"
        elif files:
            found[name] = "; ".join(f"{file} ({KNOWN.get(file, 'license not known here')})" for file in files)
    return found


def loaded(graph: dict[str, Any]) -> list[tuple[str, str]]:
    """(input, file) of every node that loads weights."""
    return [
        (key, node["inputs"][key])
        for node in graph.values()
        for key in FOLDERS
        if isinstance(node["inputs"].get(key), str)
    ]


def models_folder(given: Path | None) -> Path:
    return given or Path(os.environ["COMFYUI_PATH"]) / "models"


def run(plan: Plan, servers: Sequence[Server], models_at: Path, metrics: Path | None) -> list[str]:
    """Sentences on what is missing; empty where everything is there."""
    said = [*_files(plan), *_networks(plan, metrics), *_endpoints(plan)]
    graphs = {name: stage["graph"] for name, stage in plan.facts["stages"].items() if "graph" in stage}
    for name, graph in graphs.items():
        if servers:
            for server in servers:
                said += _on_server(name, graph, json.loads(server.client.get("/object_info")), server.client.address)
        else:
            said += _on_disk(name, graph, models_at)
    return list(dict.fromkeys(said))


def _on_disk(stage: str, graph: dict[str, Any], models_at: Path) -> Iterator[str]:
    for key, file in loaded(graph):
        place = models_at / FOLDERS[key]
        if not (place / file).is_file():
            yield f"{stage}: there is no {file} in {place}{_about(file)}; put it there, or name another with --weights."


def _on_server(stage: str, graph: dict[str, Any], known: dict[str, Any], address: str) -> Iterator[str]:
    for node in graph.values():
        if (kind := node["class_type"]) not in known:
            yield f"{stage}: the ComfyUI at {address} has no node {kind}; update it, or install the node's pack."
            continue
        wanted = known[kind]["input"].get("required", {}) | known[kind]["input"].get("optional", {})
        for key, file in loaded({"": node}):
            options = _options(wanted.get(key))
            if options is not None and file not in options:
                yield (
                    f"{stage}: the ComfyUI at {address} has no {file} in models/{FOLDERS[key]}{_about(file)}; put it "
                    "there, or name another with --weights."
                )


def _options(described: Any) -> list[str] | None:
    """Choices of an input in either form of the host's description."""
    if not described:
        return None
    if isinstance(described[0], list):
        return described[0]
    return described[1].get("options") if len(described) > 1 else None


def _about(file: str) -> str:
    return f" ({KNOWN[file]})" if file in KNOWN else ""


def _files(plan: Plan) -> Iterator[str]:
    for name in makers.DRAWING:
        path = plan.stage(name).get("path")
        if path and not Path(path).is_dir():
            yield f"{name}: the folder {path} is gone; put it back, or plan again."
    if plan.stage("inpaint")["by"] == "folder" and Path(plan.stage("inpaint")["path"]).is_dir():
        try:
            find_backgrounds(Path(plan.stage("inpaint")["path"]))
        except Problem as error:
            yield f"inpaint: {error}"
    if plan.stage("prompts")["by"] == "file" and makers.needs_prompts(plan):
        if not Path(plan.stage("prompts")["path"]).is_file():
            yield f"prompts: the file {plan.stage('prompts')['path']} is gone; put it back, or plan again."
            return
        try:
            known = bank(plan)
        except Problem as error:
            yield f"prompts: {error}"
            return
        missing = [t for t in plan.facts["objects"] if not all(known.texts(t, kind) for kind in words.KINDS)]
        if missing:
            yield f"prompts: {len(missing)} objects have no prompts in {known.path}, such as {missing[0]}; add them."
    sources = [path for _, path in plan.facts.get("sources", ())]
    if gone := [path for path in sources if not Path(path).exists()]:
        yield f"collage: {len(gone)} sources are gone, such as {gone[0]}; put them back, or plan again."


def _networks(plan: Plan, metrics: Path | None) -> Iterator[str]:
    wanted, facts = {}, plan.stage("filter")
    if facts["by"] == "network" and facts["network"] != JUDGE:
        wanted["filter"] = weights.named(facts["network"])
    if plan.stage("segment")["by"] == "detector":
        wanted["segment"] = weights.detector(plan.stage("segment")["name"])
        yield from _segmenter(plan.stage("segment")["sam"])
    for stage, one in wanted.items():
        try:
            one.find(eyes.folders(metrics))
        except weights.MissingWeights as error:
            yield f"{stage}: {error}"


def _segmenter(name: str) -> Iterator[str]:
    from ...patching.layout_and_retouch import segment  # which loads the host

    try:
        segment.existing(name)
    except FileNotFoundError as error:
        yield f"segment: {error}"


def _endpoints(plan: Plan) -> Iterator[str]:
    for name in ("prompts", "caption"):
        if isinstance(model := makers.writer(plan, name, None), Endpoint):
            try:
                model.answer("Answer with the word yes.", 0)
            except Problem as error:
                yield f"{name}: {error}"
