"""`run.py demo`: two scenes on one ComfyUI, or four subjects in three scenes each on a farm of them."""

from __future__ import annotations

from ...demo import picture
from ...demo.launcher.files import Problem
from ..farm import options as farm
from . import grid


def main(arguments: list[str]) -> None:
    top = picture.parser()
    group = top.add_argument_group("the bundled subjects on several ComfyUIs")
    group.add_argument(
        "--full", action="store_true", help="four subjects in three scenes each, larger, in place of two scenes"
    )
    farm.add(top)
    options = top.parse_args(arguments)
    if not (options.full or options.server or options.ray or options.workers is not None or options.per_gpu):
        picture.run(options)
        return
    try:
        if picture.has_own_files(options):
            raise Problem("--full, --server, --ray and --workers draw the bundled subjects: leave your own files out.")
        grid.run(options.output, grid.FULL if options.full else picture.SCENES, options)
    except Problem as problem:
        raise SystemExit(f"demo: {problem}") from problem
