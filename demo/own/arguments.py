"""Options of `run.py demo` for the user's own files."""

from __future__ import annotations

import argparse
from pathlib import Path

from .graphs import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("your own files", "all of these need --checkpoint, --photos and --subject")
    own.add_argument("--checkpoint", type=Path, metavar="FILE", help="of SD 1.x, SD 2.x or SDXL")
    own.add_argument("--photos", type=Path, metavar="FOLDER", help="with photographs of the subject, 1 to 8 are used")
    own.add_argument("--subject", metavar="WORD", help="its class, such as dog")
    own.add_argument("--lora", type=Path, metavar="FILE", help="trained on the subject")
    own.add_argument("--token", default="", metavar="WORDS", help='that the LoRA learned, such as "sks dog"')
    own.add_argument("--prompt", metavar="TEXT", help='default: "a photo of a SUBJECT on the beach"')
    own.add_argument("--negative", default="", metavar="TEXT")
    own.add_argument("--method", nargs="+", choices=METHODS, help="default: all that the files allow")
    own.add_argument("--steps", type=int, default=50, metavar="N")
    own.add_argument("--cfg", type=float, default=7.5, metavar="X")
    own.add_argument("--seed", type=int, default=0, metavar="N")
    own.add_argument("--pictures", type=int, default=2, metavar="N", help="for each method")
    own.add_argument("--size", type=int, metavar="N", help="side of a picture; default: the checkpoint's")
    own.add_argument("--cpu", action="store_true", help="run on the CPU; the default without a GPU")
