"""Draws tasks of the stand-in on a farm: python driver.py OUT COUNT [OPTION ...] with the farm's options."""

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
    launch.alias_pack(None)
    from likeness.demo.launcher.files import Problem
    from likeness.lab.farm import options
    from likeness.lab.farm.farm import Farm
    from likeness.lab.farm.records import Records
    from likeness.lab.farm.task import Task, key_of

    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--wait", type=float, default=0.05)
    options.add(parser)
    chosen = parser.parse_args()
    graphs = [
        {
            "1": {"class_type": "KSampler", "inputs": {"seed": seed, "wait": chosen.wait}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        }
        for seed in range(chosen.count)
    ]
    tasks = [Task(f"row/subject/0/{i:03d}", key_of(graph), graph, "2") for i, graph in enumerate(graphs)]
    records = Records(chosen.out)
    try:
        with records.held():
            survey = records.survey()
            left = [task for task in tasks if not survey.record(task.name, task.key)]
            print(f"{len(left)} left", flush=True)
            crew = options.crew(chosen, chosen.out / "work", {}, cpu=True, say=lambda text: print(text, flush=True))
            Farm(left, crew, lambda text: print(text, flush=True)).run(records.finish)
    except Problem as problem:
        sys.exit(f"driver: {problem}")


if __name__ == "__main__":
    os.environ["COMFYUI_PATH"] = str(HERE / "fake_comfyui")
    os.environ.pop("LIKENESS_PYTHON", None)
    main()
