"""Worker in a process of Ray. Ray sends this file as it is, so it imports nothing of the pack by itself."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any


class Actor:
    """Worker with its server, for as long as its process lives."""

    def __init__(self, pack: str, maker: str, arguments: dict[str, Any]):
        """pack: folder of the pack; LIKENESS_PACK names another one on its own machine. maker: MODULE:FUNCTION of the
        pack, which gives the worker for these arguments."""
        self._work = _made(pack, maker, arguments)

    def ready(self) -> dict[str, Any]:
        """Starts the server; returns the process, and the devices that Ray gave it."""
        self._work.start()
        return {"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}

    def run(self, task: Any, inputs: dict[str, Any]) -> Any:
        """Outcome of a task. inputs: the contents of its files in Ray's store."""
        import ray  # pyright: ignore[reportMissingImports]

        return self._work.run(task, {name: lambda place=place: ray.get(place) for name, place in inputs.items()})

    def stop(self) -> None:
        self._work.stop()


class Station:
    """Worker of one part of a stream of Ray Data, for as long as its process lives. It takes a row after another."""

    def __init__(self, pack: str, maker: str, arguments: dict[str, Any]):
        """Arguments as of Actor."""
        self._work = _made(pack, maker, arguments)
        self._work.start()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return self._work.run(row)


def _made(pack: str, maker: str, arguments: dict[str, Any]) -> Any:
    _alias(Path(os.environ.get("LIKENESS_PACK", pack)))
    return made(maker, arguments)


def made(maker: str, arguments: dict[str, Any]) -> Any:
    """Worker that a function MODULE:FUNCTION of the pack gives for these arguments."""
    module, function = maker.split(":")
    return getattr(importlib.import_module(f"likeness.{module}"), function)(**arguments)


def _alias(pack: Path) -> None:
    """Makes the pack importable as `likeness` in this process."""
    spec = importlib.util.spec_from_file_location("likeness_launch", pack / "demo" / "launcher" / "launch.py")
    assert spec is not None and spec.loader is not None
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.alias_pack(None)
