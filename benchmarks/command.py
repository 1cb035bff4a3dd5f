"""`run.py bench NAME`: runs one benchmark, prints its table and writes its JSON."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from pathlib import Path

BENCHMARKS = {
    "tinyland": "the bundled model, its judge and the overfitting of personalized models",
    "layout-and-retouch": "the ablation of Layout-and-Retouch, and its tau sweep",
    "layout-and-retouch-costs": "the cost of Layout-and-Retouch in time, memory and operations, beside plain sampling",
    "layout-and-retouch-choices": "ways to follow a layout, and prompts of the target, beside the paper's own",
    "pick-and-draw": "the losses of Pick-and-Draw on four base models",
    "pick-and-draw-costs": "the cost of Pick-and-Draw in time and memory, beside plain sampling and plain autograd",
    "pick-and-draw-choices": "features, sources, masks and steps of Pick-and-Draw, beside the paper's own",
    "jedi": "references, guidance and replacement on the joint model of JeDi",
    "jedi-costs": "the cost of a set in time, memory and operations, beside as many plain pictures",
    "jedi-data": "joint models of JeDi by what they were trained on: rendered sets, sets of S3, near-copies",
    "likeness": "the dial of Likeness Sampler, and a second subject drawn beside the first",
    "transformers": "every method on the demo transformer, and the places of its references",
    "peers": "the papers' methods beside their peers, each over its strength, with Pareto plots",
    "robustness": "the papers' signs with other samplers, steps and thread counts",
    "overhead": "the time of every node that patches, as a ratio to the plain KSampler, and of loading the pack",
    "growth": "the time of every method while one size grows, beside the growth of the work itself",
    "gpu": "time, memory and waits of every method on an NVIDIA GPU, at the sizes of SD 1.5 and SDXL",
    "gpu-memory": "memory of every method at the sizes of SD 1.5 and SDXL, computed from shapes; needs no GPU",
    "reference-memory": "the RAM that a reference's features take, beside what saving it costs in likeness",
    "rehearsal": "every workflow for real files, on checkpoints of their size with random weights (10 GB of disk)",
    "host-options": "pictures of every method under ComfyUI's own options, beside those without",
    "lifecycle": "a ComfyUI that runs for long, is interrupted, and is killed while it saves",
    "fuzz": "random graphs over all nodes: pictures or one sentence, and nothing left behind",
}
OPTIONS = {
    "gpu": ("seconds", "json_file"),
    "layout-and-retouch-costs": ("seconds",),
    "pick-and-draw-costs": ("seconds",),
    "jedi-costs": ("seconds",),
    "fuzz": ("seed", "count", "seconds"),
    "rehearsal": ("only",),
}
"""Options that a benchmark takes besides --quick, by the names of its arguments."""


SPREAD = (
    "layout-and-retouch",
    "pick-and-draw",
    "jedi",
    "jedi-data",
    "likeness",
    "transformers",
    "peers",
    "robustness",
)
"""Benchmarks that draw cell by cell, so that several processes can; each has a function `sweeps`."""


def main(arguments: list[str]) -> None:
    top = parser()
    options = top.parse_args(arguments)
    check(top, options)
    run(options)


def parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:26} {about}" for name, about in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="run.py bench",
        description=__doc__,
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # `run.py` looks for --ray
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small sample within five minutes on two cores; only printed, not compared to the targets",
    )
    parser.add_argument(
        "--json", dest="json_file", type=Path, metavar="FILE", help="also write the JSON to FILE; gpu goes on from it"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="gpu: time to measure in (510, with --quick 240); pick-and-draw-costs, layout-and-retouch-costs, "
        "jedi-costs: likewise (3600, 900 and 600, with --quick 120); fuzz: to draw graphs in",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="fuzz: of the graphs (0)")
    parser.add_argument("--count", type=int, metavar="N", help="fuzz: number of graphs (5050)")
    parser.add_argument("--only", metavar="WORDS", help="rehearsal: workflows whose name contains these words")
    return parser


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program for an option that the benchmark does not take."""
    for name in {name for names in OPTIONS.values() for name in names} - {"json_file"}:
        if getattr(options, name) is not None and name not in OPTIONS.get(options.name, ()):
            parser.error(f"--{name} is not an option of {options.name}; leave it out.")


def run(options: argparse.Namespace) -> None:
    """Runs a benchmark, prints it, and writes what is asked for."""
    own = {name: getattr(options, name) for name in OPTIONS.get(options.name, ()) if getattr(options, name) is not None}

    import torch

    prepare_host()
    benchmark = importlib.import_module(module_of(options.name))
    from . import report

    try:
        with torch.inference_mode():  # as ComfyUI runs its nodes
            result = benchmark.run(quick=options.quick, **own)
    except (FileNotFoundError, ValueError) as error:  # missing or truncated weights
        raise SystemExit(f"bench {options.name}: {error}") from error
    if options.quick:  # targets are for the sizes and samples of full runs
        result = dataclasses.replace(result, targets={})
    print(report.table(result), flush=True)
    part = options.quick or options.count is not None or options.only is not None
    written = [] if part else report.publish(result, report.RESULTS)
    if options.json_file:
        written.append(report.write_json(result.as_dict(), options.json_file))
    for path in written:
        print(f"written: {path}", flush=True)


def module_of(name: str) -> str:
    return f"{__package__}.{name.replace('-', '_')}"


def prepare_host() -> None:
    """Chooses ComfyUI's device and attention; has to run before its modules are imported."""
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    args.use_pytorch_cross_attention = True
