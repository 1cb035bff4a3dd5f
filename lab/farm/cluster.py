"""`run.py ray COMMAND ...`: Ray's own commands, with the Ray of the farm: start, stop, status, symmetric-run."""

from __future__ import annotations

import os
import secrets
import sys

from ...demo.launcher.files import ROOT


def secured(token: str | None = None) -> None:
    """Sets Ray's variables before it is imported: authentication by token, no statistics, no orphans.

    Variables that are set already stay. token: one for a cluster of this process alone.
    """
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_process_group_cleanup_enabled": "true",
        "RAY_worker_niceness": "0",  # ComfyUI inherits it, and Ray's own is 15
        "LIKENESS_PACK": str(ROOT),
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if token is not None:
        os.environ["RAY_AUTH_TOKEN"] = token
        # Without a cluster Ray listens on the loopback address; otherwise it takes 127.0.0.1 for the machine's own.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def new_token() -> str:
    return secrets.token_hex(32)


def main(arguments: list[str]) -> None:
    secured()
    # Some of these commands call `ray` by its name.
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    from ray.scripts import scripts  # pyright: ignore[reportMissingImports]

    sys.argv[:] = ["ray", *arguments]
    scripts.main()
