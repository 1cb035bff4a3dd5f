"""`run.py bench`: a benchmark in this process, or with its pictures drawn by several workers first."""

from __future__ import annotations

import argparse
import importlib

from ...benchmarks import command
from ...demo.launcher.files import Problem
from ..farm import options as farm
from .fill import Fill


def main(arguments: list[str]) -> None:
    top = command.parser()
    farm.add(top, servers=False)
    options = top.parse_args(arguments)
    command.check(top, options)
    if options.ray or options.workers is not None:
        try:
            _spread(options)
        except (Problem, FileNotFoundError, ValueError) as error:
            raise SystemExit(f"bench {options.name}: {error}") from error
    command.run(options)


def _spread(options: argparse.Namespace) -> None:
    """Draws the pictures that are missing. What a benchmark times is measured afterwards, when the workers are gone."""
    farm.check(options)
    if options.name not in command.SPREAD:
        raise Problem(
            f"--ray and --workers draw the cells of {', '.join(command.SPREAD)}, and {options.name} has none: leave "
            "them out."
        )
    import torch

    command.prepare_host()
    module = command.module_of(options.name)
    with torch.inference_mode():
        sweeps = importlib.import_module(module).sweeps(options.quick)
    arguments = {"module": module, "quick": options.quick, "threads": torch.get_num_threads()}
    cpu = not options.per_gpu and not torch.cuda.is_available()
    Fill(sweeps, _say).run(lambda: farm.processes(options, "lab.bench.cells:Cells", arguments, cpu=cpu, say=_say))


def _say(text: str) -> None:
    print(text, flush=True)
