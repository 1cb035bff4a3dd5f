"""Choices of a plan's stages on the command line: a workflow, a network, an endpoint, or the user's files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...demo.launcher.files import Problem
from ...patching.evaluation import weights as known
from ...patching.evaluation.judge import JUDGE
from ...patching.evaluation.same_subject import THRESHOLD
from ...patching.evaluation.weights import digest
from ..joint.sets import pictures_in
from . import graphs, words
from .endpoint import check_url

SHARE = 0.3
"""Probability of restyling; the paper's value is not known."""


def weights(text: str) -> dict[str, str]:
    """Files by stage of a text such as "collage=sdxl.safetensors,inpaint=sd15.safetensors". Raises Problem."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        stage, equals, name = (word.strip() for word in part.partition("="))
        if not equals or not name or stage not in graphs.NEEDED:
            raise Problem(
                f"--weights has '{part}', expected STAGE=FILE with a stage among {', '.join(graphs.NEEDED)}: change it."
            )
        found[stage] = name
    return found


def stages(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Facts of all stages. Raises Problem for the first that is wrong."""
    files = weights(options.weights)
    found = {
        "prompts": _prompts(options, files),
        "collage": _collage(options, files),
        "segment": _segment(options, files),
        "filter": _filter(options.filter),
        "inpaint": _inpaint(options, files),
        "restyle": _restyle(options, files),
        "caption": _caption(options, files),
    }
    if unused := [stage for stage in files if found[stage]["by"] != "workflow"]:
        raise Problem(f"--weights has a file for {unused[0]}, which no workflow does: leave it out.")
    if found["collage"]["by"] == "none" and found["segment"]["by"] != "folder":
        raise Problem("--collage none needs cut-out instances: give --segment a folder with OBJECT/SET/*.png.")
    return found


def _prompts(options: argparse.Namespace, files: dict[str, str]) -> dict[str, Any]:
    given = options.prompts
    if given == "template":
        return {"by": "template"}
    if given.startswith(("http://", "https://")):
        return _endpoint(options, given, "--prompts")
    if given.endswith(".jsonl"):
        path = _there(Path(given), "--prompts")
        return {"by": "file", "path": str(path.resolve()), "hash": digest(path)}
    return graphs.load("prompts", given, files.get("prompts", ""))


def _endpoint(options: argparse.Namespace, url: str, option: str) -> dict[str, Any]:
    if not options.llm_model:
        raise Problem(f"{option} names an endpoint, and no model: name one with --llm-model.")
    return {
        "by": "endpoint",
        "url": check_url(url),
        "model": options.llm_model,
        "key": options.llm_key,
        "temperature": options.temperature,
    }


def _collage(options: argparse.Namespace, files: dict[str, str]) -> dict[str, Any]:
    if options.collage == "none":
        return {"by": "none"}
    if (path := Path(options.collage)).is_dir():
        return {"by": "folder", "path": str(path.resolve())}
    return graphs.load("collage", options.collage, files.get("collage", ""))


def _segment(options: argparse.Namespace, files: dict[str, str]) -> dict[str, Any]:
    given = options.segment
    if (path := Path(given)).is_dir():
        return {"by": "folder", "path": str(path.resolve())}
    name, _, sam = given.partition("+")
    if name in known.DETECTORS:
        if not sam:
            raise Problem(f"--segment {name} finds boxes: name a checkpoint in models/sams, {name}+FILE.")
        return {"by": "detector", "name": name, "sam": sam, "threshold": options.box_threshold}
    return graphs.load("segment", given, files.get("segment", ""))


def _filter(text: str) -> dict[str, Any]:
    if text == "none":
        return {"by": "none", "network": "none", "threshold": 0.0}
    name, _, number = text.partition(":")
    networks = (*known.KNOWN, JUDGE)
    try:
        threshold = float(number) if number else THRESHOLD
    except ValueError:
        threshold = 2.0
    if name not in networks or not -1 <= threshold <= 1:
        raise Problem(
            f"--filter is {text}, expected NETWORK:COSINE with a network among {', '.join(networks)}, or none: change "
            "it."
        )
    return {"by": "network", "network": name, "threshold": threshold}


def _inpaint(options: argparse.Namespace, files: dict[str, str]) -> dict[str, Any]:
    if (path := Path(options.inpaint)).is_dir():
        return {"by": "folder", "path": str(path.resolve())}
    return graphs.load("inpaint", options.inpaint, files.get("inpaint", ""))


def _restyle(options: argparse.Namespace, files: dict[str, str]) -> dict[str, Any]:
    number, _, name = options.restyle.partition(":")
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise Problem(
            f"--restyle is {options.restyle}, expected a probability such as 0.3, or 0.3:WORKFLOW: change it."
        )
    if not share:
        return {"by": "none", "share": 0.0, "styles": []}
    styles = list(words.STYLES)
    if options.styles:
        path = _there(options.styles, "--styles")
        styles = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not styles:
            raise Problem(f"The file {path} has no styles: write one instruction on each line.")
    facts = graphs.load("restyle", name or "instruct-pix2pix", files.get("restyle", ""))
    return {**facts, "share": share, "styles": styles}


def _caption(options: argparse.Namespace, files: dict[str, str]) -> dict[str, Any]:
    given, template = options.caption, options.template
    if "{name}" not in template:
        raise Problem(f"expected {{name}} in --template, got '{template}': write it where the object's name belongs.")
    if given in ("template", "scene"):
        return {"by": given, "template": template}
    if given.startswith(("http://", "https://")):
        return _endpoint(options, given, "--caption")
    if (path := Path(given)).is_dir():
        kind = "blip2" if (path / "config.json").is_file() else "folder"
        return {"by": kind, "path": str(path.resolve())}
    return graphs.load("caption", given, files.get("caption", ""))


def sources(stages_: dict[str, dict[str, Any]]) -> list[list[str]]:
    """[object, file or folder] of every set whose collage or instances are the user's; empty where they are drawn.

    A collage is FOLDER/OBJECT/NAME.png, instances are FOLDER/OBJECT/SET/*.png. Raises Problem for a folder without any.
    """
    collage, segment = stages_["collage"], stages_["segment"]
    if collage["by"] not in ("folder", "none"):
        return []
    folder = Path((collage if collage["by"] == "folder" else segment)["path"])
    things = sorted(path for path in folder.iterdir() if path.is_dir())
    if collage["by"] == "folder":
        found = [[_name(thing), str(path)] for thing in things for path in pictures_in(thing)]
    else:
        found = [
            [_name(thing), str(path)]
            for thing in things
            for path in sorted(thing.iterdir())
            if path.is_dir() and pictures_in(path)
        ]
    if not found:
        wanted = "OBJECT/NAME.png" if collage["by"] == "folder" else "OBJECT/SET/*.png"
        raise Problem(f"The folder {folder} has no pictures {wanted}: put them there, one sub-folder for each object.")
    return found


def _name(folder: Path) -> str:
    return " ".join(folder.name.replace("_", " ").split())


def _there(path: Path, option: str) -> Path:
    if not path.is_file():
        raise Problem(f"There is no file {path}: correct {option}.")
    return path
