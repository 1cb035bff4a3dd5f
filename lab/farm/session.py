"""Ray of this process: on this machine alone, or on a cluster that runs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from ...demo.launcher.files import Problem
from . import actor, cluster, folders

STORE = 512 * 2**20
"""Bytes of Ray's store on this machine, for what is on its way between processes."""


class Session:
    """Connection to Ray."""

    def __init__(self, address: str, size: int):
        """address: `local`, `auto`, or that of a cluster. size: workers on CPUs that there must be room for. Raises
        Problem."""
        self._folder: Path | None = None
        cluster.secured(cluster.new_token() if address == "local" else None)
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise Problem(
                f"There is no Ray in {sys.executable}: start this with `run.py`, which installs it."
            ) from error
        self.ray: Any = ray
        ray.cloudpickle.register_pickle_by_value(actor)
        self._connect(address, size)

    def _connect(self, address: str, size: int) -> None:
        options: dict[str, Any] = {"address": address}
        if address == "local":
            self._folder = folders.new()
            options = {
                "address": "local",
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": str(self._folder),
                "num_cpus": max(size, os.cpu_count() or 1),
                "object_store_memory": STORE,
                "include_dashboard": False,
            }
        try:
            self.ray.init(**options, namespace="likeness", log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError, self.ray.exceptions.RayError) as error:
            self.leave()
            raise Problem(
                f"Ray at {address} cannot be used ({str(error).strip().splitlines()[0]}): start it with `run.py ray "
                "start --head`, or say --ray local."
            ) from error

    def gpus(self) -> int:
        """Number of GPUs on all machines."""
        return int(self.ray.cluster_resources().get("GPU", 0.0))

    def leave(self) -> None:
        """Ends this process's part of it, and what runs on this machine alone."""
        self.ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def no_gpu() -> Problem:
    return Problem("Ray knows no GPU on its machines: add --cpu to draw on CPUs, or say --workers N to wait.")
