"""`run.py bench NAME`: runs one benchmark, prints its table and writes its JSON."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from pathlib import Path

BENCHMARKS = {
    "tinyland": "the bundled model, its judge and the overfitting of personalized models",
    "layout-and-retouch": "the ablation of Layout-and-Retouch, its tau sweep and its cost",
    "pick-and-draw": "the losses of Pick-and-Draw on four base models, and their cost",
    "jedi": "references, guidance and replacement on the joint model of JeDi, and the cost of a set",
    "overhead": "the time of every node that patches, as a ratio to the plain KSampler",
}


def main(arguments: list[str]) -> None:
    listed = "\n".join(f"  {name:18} {about}" for name, about in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="run.py bench",
        description=__doc__,
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small sample within five minutes on two cores; only printed, not compared to the targets",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON to FILE")
    options = parser.parse_args(arguments)

    import torch

    prepare_host()
    benchmark = importlib.import_module(module_of(options.name))
    from . import report

    try:
        with torch.inference_mode():  # as ComfyUI runs its nodes
            result = benchmark.run(quick=options.quick)
    except (FileNotFoundError, ValueError) as error:  # missing or truncated weights
        raise SystemExit(f"bench {options.name}: {error}") from error
    if options.quick:  # targets are for the sizes and samples of full runs
        result = dataclasses.replace(result, targets={})
    print(report.table(result), flush=True)
    written = [] if options.quick else report.publish(result, report.RESULTS)
    if options.json:
        written.append(report.write_json(result.as_dict(), options.json))
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
