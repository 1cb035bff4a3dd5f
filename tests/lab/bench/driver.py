"""Draws the cells of the small benchmark: python driver.py [OPTION ...] with the farm's options."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    spec = importlib.util.spec_from_file_location("launch", HERE.parents[2] / "demo" / "launcher" / "launch.py")
    assert spec is not None and spec.loader is not None
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.alias_pack(Path(os.environ["COMFYUI_PATH"]))
    from likeness.benchmarks.command import prepare_host

    prepare_host()
    import torch
    from likeness.demo.launcher.files import Problem
    from likeness.lab.bench.fill import Fill
    from likeness.lab.farm import options
    from likeness.tests.lab.bench import tiny

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    options.add(parser, servers=False)
    chosen = parser.parse_args()
    arguments = {"module": tiny.MODULE, "quick": True, "threads": 1}
    try:
        Fill(tiny.sweeps(True), lambda text: print(text, flush=True)).run(
            lambda: options.processes(chosen, "lab.bench.cells:Cells", arguments, cpu=True)
        )
    except Problem as problem:
        sys.exit(f"driver: {problem}")


if __name__ == "__main__":
    main()
