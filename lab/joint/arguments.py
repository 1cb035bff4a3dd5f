"""Command line of `run.py train`: parses the options and checks which part they belong to."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ...demo.launcher.files import Problem

SETS = "sets"
SET_SIZES = {"joint": (1, 2, 3, 4), SETS: (2, 3, 4)}
"""Default set sizes. Training on single pictures keeps guidance's pass without references in distribution."""
_ON_SETS = {
    "checkpoint": None,
    "out": None,
    "resolution": None,
    "batch": 4,
    "learning_rate": None,
    "set_sizes": None,
    "text_dropout": 0.1,
}
"""Options of the part joint that need --sets, with their defaults."""
_OF_JOINT = {"sets": None, "loss_on": "all", **_ON_SETS}
_OF_SETS = {
    "pictures": None,
    "backgrounds": None,
    "out": None,
    "count": 1000,
    "size": 512,
    "set_sizes": None,
    "seed": 0,
    "template": "a photo of a {name}",
}
_OF_SUBJECTS = {"prior": 200, "convolutions": "encoder"}
_OF_ALONE = {"prior": 200}
_OWN = {
    "joint": _OF_JOINT,
    SETS: _OF_SETS,
    "all": _OF_SUBJECTS,
    "subjects": _OF_SUBJECTS,
    "cross-attention": _OF_ALONE,
}
"""Options of some parts alone, with their defaults."""


def parse(arguments: list[str], parts: tuple[str, ...], about: str | None) -> argparse.Namespace:
    """Parses the command line. Raises Problem for an option of another part, a missing option, or a value out of
    range."""
    options = _parser(parts, about).parse_args(arguments)
    own = _OWN.get(options.part, {})
    for name in [name for its in _OWN.values() for name in its if name not in own]:
        if getattr(options, name) is not None:
            owners = " and ".join(part for part, its in _OWN.items() if name in its and part != "all")
            raise Problem(
                f"expected {_flag(name)} with the part {owners} alone, got the part {options.part}: leave "
                f"{_flag(name)} out."
            )
    if options.part == "joint":
        _check_joint(options)
    if options.part == SETS:
        if options.steps is not None:
            raise Problem(
                f"expected --steps with a part that trains, got the part {SETS}: use --count for the number of sets."
            )
        _require(options, ("pictures", "backgrounds", "out"))
    for name, value in own.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.part in SET_SIZES:
        options.set_sizes = options.set_sizes or SET_SIZES[options.part]
    if own:
        _check_values(options)
    return options


def _parser(parts: tuple[str, ...], about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py train", description=about)
    parser.add_argument(
        "part",
        choices=[*parts, "all", SETS],
        nargs="?",
        default="all",
        help="cross-attention and copies serve benchmarks alone; all leaves them out",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="training steps; a resumed run may have another number (with --sets 20000; 4000 for tinyland)",
    )
    parser.add_argument("--work", type=Path, default=Path(os.environ.get("LIKENESS_CACHE", ".")) / "training")
    parser.add_argument("--device", help="cpu or cuda; the default is cuda if available")
    parser.add_argument(
        "--only", help="one subject's name, for the parts subjects, embeddings, cross-attention and transformer"
    )
    parser.add_argument(
        "--from-weights", action="store_true", help="start autoencoder or denoiser from the pack's own weights"
    )
    subjects = parser.add_argument_group("subjects", "the demo's LoRAs")
    subjects.add_argument(
        "--prior",
        type=int,
        metavar="N",
        help="pictures of the class by the vanilla model, learned beside the subject's (200; 0 for none)",
    )
    subjects.add_argument(
        "--convolutions",
        choices=("all", "encoder"),
        help="those of the residual blocks that a LoRA changes beside attention (encoder)",
    )
    joint = parser.add_argument_group("joint", "Tinyland's joint model or, with --sets, one of your own")
    joint.add_argument(
        "--sets",
        type=Path,
        action="append",
        metavar="FOLDER",
        help=(
            "shards of run.py s3, or pictures of vertically stacked members with captions in NAME.txt, or a folder of "
            "pictures for each NAME.txt; may be given several times, and each source is taken equally often"
        ),
    )
    joint.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="the SD1.x or SDXL checkpoint to start from (safetensors), or tinyland",
    )
    joint.add_argument("--resolution", type=int, help="side of a member in pixels (512; 1024 for SDXL)")
    joint.add_argument("--batch", type=int, help="sets per step (4)")
    joint.add_argument("--learning-rate", type=float, help="after 500 steps of warm-up (1e-5; 2e-4 for tinyland)")
    joint.add_argument("--text-dropout", type=float, help="probability that all captions of a set are dropped (0.1)")
    joint.add_argument(
        "--loss-on",
        choices=("all", "missing"),
        help="members of a set in the loss (all); unlike in the paper, both draw a set without missing members again",
    )
    sets = parser.add_argument_group(SETS, "builds a folder for --sets from cut-out pictures and backgrounds")
    sets.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="a sub-folder of pictures with masks for each subject"
    )
    sets.add_argument(
        "--backgrounds", type=Path, metavar="FOLDER", help="pictures without the subjects; NAME.txt names the place"
    )
    sets.add_argument("--count", type=int, help="number of sets (1000)")
    sets.add_argument("--size", type=int, help="side of a member in pixels (512)")
    sets.add_argument("--seed", type=int, help="seed of the random draws (0)")
    sets.add_argument("--template", help="the caption ('a photo of a {name}'); {name} is the sub-folder's")
    both = parser.add_argument_group(f"joint and {SETS}")
    both.add_argument("--out", type=Path, help="the checkpoint, or the folder of sets, to write")
    both.add_argument(
        "--set-sizes", type=_sizes, help="members of a set, drawn at random (1,2,3,4 for joint and 2,3,4 for sets)"
    )
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected numbers separated by commas, such as 2,3,4, got '{text}'"
        ) from error


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _require(options: argparse.Namespace, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(options, name) is None:
            raise Problem(f"expected {', '.join(map(_flag, names))}, got no {_flag(name)}: add it.")


def _check_joint(options: argparse.Namespace) -> None:
    if options.sets is not None:
        _require(options, ("sets", "checkpoint", "out"))
        return
    for name in _ON_SETS:
        if getattr(options, name) is not None:
            raise Problem(
                f"expected {_flag(name)} together with --sets, got no --sets: add it, or leave {_flag(name)} out."
            )


def _check_values(options: argparse.Namespace) -> None:
    for name, least in (("resolution", 64), ("batch", 1), ("count", 1), ("size", 64), ("steps", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise Problem(f"expected {_flag(name)} of at least {least}, got {value}: raise it.")
    if options.resolution is not None and options.resolution % 64:
        raise Problem(
            f"expected a --resolution that is a multiple of 64, got {options.resolution}: use "
            f"{options.resolution // 64 * 64}."
        )
    if options.prior is not None and options.prior < 0:
        raise Problem(f"expected a --prior of at least 0, got {options.prior}: use 0 for none.")
    if options.set_sizes is not None and min(options.set_sizes) < 1:
        raise Problem(f"expected --set-sizes of at least 1, got {min(options.set_sizes)}: leave it out.")
    if options.learning_rate is not None and options.learning_rate <= 0:
        raise Problem(f"expected a --learning-rate above 0, got {options.learning_rate:g}: use 1e-5.")
    if options.text_dropout is not None and not 0 <= options.text_dropout <= 1:
        raise Problem(f"expected a --text-dropout between 0 and 1, got {options.text_dropout:g}: use 0.1.")
    if options.template is not None and "{name}" not in options.template:
        raise Problem(
            f"expected {{name}} in --template, got '{options.template}': write it where the subject's name belongs."
        )
