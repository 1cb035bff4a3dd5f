"""Time that a ComfyUI takes to load the pack, each time in a new process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = """
import asyncio, importlib.util, sys, time
host, root = sys.argv[1:]
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, host)
import comfy.options
comfy.options.enable_args_parsing()
import nodes, server, comfy.samplers, comfy.sd, comfy_api.latest
start = time.perf_counter()
spec = importlib.util.spec_from_file_location("pack", f"{root}/__init__.py", submodule_search_locations=[root])
pack = importlib.util.module_from_spec(spec)
sys.modules["pack"] = pack
spec.loader.exec_module(pack)
extension = pack.comfy_entrypoint()
found = asyncio.run(extension.get_node_list())
print(len(found), time.perf_counter() - start)
"""


def import_seconds(rounds: int) -> float:
    """Median of the seconds to the list of nodes; ComfyUI has its own modules before. One more process, which does
    not count, leaves the compiled files that an installed pack has.

    Raises subprocess.CalledProcessError where the pack cannot be loaded.
    """
    return statistics.median([_seconds() for _ in range(rounds + 1)][1:])


def _seconds() -> float:
    command = [sys.executable, "-c", _PROGRAM, os.environ["COMFYUI_PATH"], str(ROOT)]
    hindering = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hindering}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    count, seconds = done.stdout.splitlines()[-1].split()
    if not int(count):
        raise ValueError("expected nodes of the pack, got none; look at its __init__.py")
    return float(seconds)
