"""Entry of `run.py s3`: chooses ComfyUI's device before its modules are imported."""

from __future__ import annotations

import importlib

from ...benchmarks.command import prepare_host


def main(arguments: list[str]) -> None:
    prepare_host()
    importlib.import_module(f"{__package__}.command").main(arguments)
