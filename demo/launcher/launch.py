"""Entry point inside the demo's environment: makes the pack importable as `likeness` and runs one of its commands.

The pack's folder may have any name and must never be on sys.path: its `nodes/` would hide ComfyUI's `nodes.py`.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "train": "lab.joint.command",
    "bench": "lab.bench.command",
    "demo": "lab.demo.command",
    "serve": "demo.launcher.serve",
    "evaluate": "lab.evaluate.entry",
    "s3": "lab.s3.entry",
    "ray": "lab.farm.cluster",
    "worker": "lab.farm.process",
}


def alias_pack(host: Path | None) -> None:
    """Registers the repository as the package `likeness` without running its __init__, and puts `host` on sys.path."""
    package = types.ModuleType("likeness")
    package.__path__ = [str(ROOT)]
    package.__package__ = "likeness"
    package.__spec__ = importlib.machinery.ModuleSpec("likeness", None, is_package=True)
    sys.modules["likeness"] = package
    here = {ROOT, Path(__file__).resolve().parent}
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() not in here]
    if host is not None:
        sys.path.insert(0, str(host))


def main() -> None:
    command, *arguments = sys.argv[1:]
    importlib.import_module(f"likeness.{COMMANDS[command]}").main(arguments)


if __name__ in ("__main__", "__mp_main__"):  # the second name is a worker process's
    alias_pack(Path(os.environ["COMFYUI_PATH"]) if "COMFYUI_PATH" in os.environ else None)
if __name__ == "__main__":
    main()
