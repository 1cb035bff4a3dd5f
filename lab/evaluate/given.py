"""Lists, strengths and weights that a user names on the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...demo.launcher.files import Problem
from ...patching.evaluation.weights import digest
from . import templates
from .plan import Plan
from .separate import ENCODERS, FOLDERS, Separate


def names(text: str) -> list[str]:
    """Names of a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def dials(text: str) -> dict[str, list[float]]:
    """Strengths by method of a text such as "lora=0.4,0.7;jedi=5". Raises Problem."""
    found = {}
    for part in filter(None, text.split(";")):
        name, _, values = part.partition("=")
        try:
            found[name.strip()] = [float(value) for value in names(values)]
        except ValueError:
            values = ""
        if not names(values):
            raise Problem(f"--dials has '{part}', expected METHOD=NUMBER,NUMBER such as lora=0.4,0.7,1: change it.")
    return found


@dataclass(frozen=True)
class Weights:
    """Weights that the methods read.

    folders: places for our own server. files: names of the checkpoints by slot. hashes: of the checkpoints by slot.
    own: folder of each subject's files by slot, with their endings.
    """

    folders: dict[str, str]
    files: dict[str, str]
    hashes: dict[str, str]
    own: dict[str, tuple[Path, tuple[str, ...]]]

    @staticmethod
    def of(options: argparse.Namespace, methods: Sequence[str]) -> Weights:
        """Weights that the options name. Raises Problem for one that a method needs and that is missing."""
        models = options.models or Path(os.environ["COMFYUI_PATH"]) / "models"
        slots = set().union(*(templates.load(method).names for method in methods))
        folders, files, hashes = {"models": str(models.resolve())}, {}, {}
        named = _named(options)
        if options.network and "checkpoint" in slots:
            slots = slots - {"checkpoint"} | (named.keys() - {"checkpoint", "joint_checkpoint"})
        for slot, (given, option, kind) in named.items():
            if slot not in slots:
                continue
            if not given:
                raise Problem(f"The methods {', '.join(methods)} need a {_what(slot)}: name it with {option}.")
            if options.remote:
                files[slot] = given
                continue
            path = _file(given, models / kind, option, _what(slot))
            if path.parent.resolve() != (models / kind).resolve():
                folders[f"{kind}{len(files)}"] = str(path.parent.resolve())
            files[slot] = path.name
            hashes[slot] = digest(path)
        own = {}
        for slot, option, folder, endings in (
            ("lora", "loras", options.loras, (".safetensors",)),
            ("embedding_prompt", "embeddings", options.embeddings, (".safetensors", ".pt", ".bin")),
        ):
            if slot not in slots or options.remote:
                continue
            if folder is None or not folder.is_dir():
                raise Problem(
                    f"The methods {', '.join(methods)} need a file for each subject, and --{option} is "
                    f"{folder or 'not given'}: name their folder."
                )
            folders[option] = str(folder.resolve())
            own[slot] = folder, endings
        return Weights(folders, files, hashes, own)

    def add_own(self, plan: Plan) -> list[str]:
        """Adds the hash of each subject's own files to the plan; returns sentences on files that fit no subject.

        Raises Problem for a subject without its file.
        """
        said: list[str] = []
        for slot, (folder, endings) in self.own.items():
            found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in endings}
            if missing := [name for name in plan.subjects if name not in found]:
                raise Problem(
                    f"{folder} has no {missing[0]}{endings[0]}, and {len(missing)} of {len(plan.subjects)} subjects "
                    "lack theirs: add the files, or leave the subjects out with --only."
                )
            if more := sorted(found.keys() - plan.subjects.keys()):
                said.append(f"{folder} has files that fit no subject of the plan, and are not used: {', '.join(more)}.")
            plan.facts["weights"][slot] = {name: digest(found[name]) for name in plan.subjects}
        return said


def separate(options: argparse.Namespace) -> Separate | None:
    """Files that the options name; None for a U-Net's checkpoint. Raises Problem for options that do not fit."""
    encoders, others = names(options.text_encoders), ("text_encoders", "clip_type", "vae")
    if not options.network:
        if given := [f"--{name.replace('_', '-')}" for name in others if getattr(options, name)]:
            raise Problem(f"{given[0]} is for a network in a file of its own: name that with --network.")
        return Separate(0, "") if options.transformer else None
    if options.checkpoint:
        raise Problem("--network and --checkpoint are both given: leave one of them out.")
    if not 1 <= len(encoders) <= len(ENCODERS):
        raise Problem(f"--text-encoders names {len(encoders)} files, and ComfyUI loads one to three: change it.")
    if not options.clip_type and len(encoders) < len(ENCODERS):
        raise Problem("--clip-type is missing: name the type of CLIP Loader, such as lumina2 for Z-Image.")
    return Separate(len(encoders), options.clip_type)


def _named(options: argparse.Namespace) -> dict[str, tuple[str, str, str]]:
    """The file that is given for each slot, its option, and its folder of models."""
    named = {
        slot: (getattr(options, slot), f"--{slot.replace('_', '-')}", "checkpoints")
        for slot in ("checkpoint", "joint_checkpoint")
    }
    for slot in ("network", "vae"):
        named[slot] = getattr(options, slot), f"--{slot}", FOLDERS[slot]
    for slot, given in zip(ENCODERS, names(options.text_encoders), strict=False):
        named[slot] = given, "--text-encoders", FOLDERS[slot]
    return named


def _what(slot: str) -> str:
    """Noun of a slot's file."""
    return "checkpoint" if slot.endswith("checkpoint") else "VAE" if slot == "vae" else slot.replace("_", " ")


def _file(given: str, folder: Path, option: str, what: str) -> Path:
    path = next((path for path in (Path(given).expanduser(), folder / given) if path.is_file()), None)
    if path is None:
        raise Problem(f"There is no {what} {given}, also not in {folder}: change {option}.")
    return path
