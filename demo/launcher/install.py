"""Installs a private ComfyUI and the tools of the tests into the cache, with the standard library alone."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from .environment import GB, Environment
from .files import ROOT
from .pins import DEFAULT_HOST, RAY, TOOLS, TORCH
from .pythons import WINDOWS, site_folders

LOCKS = ROOT / "demo" / "launcher" / "locks"


def cache_folder() -> Path:
    """Cache folder: LIKENESS_CACHE, or comfyui-likeness in the system's folder for caches."""
    if named := os.environ.get("LIKENESS_CACHE"):
        return Path(named).expanduser().resolve()
    if WINDOWS:
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "comfyui-likeness"


def private_comfyui(cache: Path, version: str = DEFAULT_HOST) -> tuple[Path, Path]:
    """Python and folder of a pinned ComfyUI, installed on first use. Raises Problem."""
    folder, lock = cache / f"host-{version}", LOCKS / f"host-{version}.txt"
    if version == DEFAULT_HOST:
        index = os.environ.get("LIKENESS_TORCH_INDEX", "")
        host = Environment(folder, TORCH, 8 * GB, lock, LOCKS / "torch.txt", version=version, index=index)
    else:  # shares the default host's packages, so that torch is installed once
        base = str(private_comfyui(cache)[0])
        host = Environment(folder, TORCH, 2 * GB, lock, creator=base, sites=site_folders(base), version=version)
    host.ensure(cache / "lock")
    return host.python, host.comfyui


def tools_python(cache: Path, python: Path) -> Path:
    """Python with the test tools on top of the packages of `python`, which stays unchanged. Raises Problem."""
    return _python_with(TOOLS, "tools", cache, python)


def ray_python(cache: Path, python: Path) -> Path:
    """Python with Ray on top of the packages of `python`, which stays unchanged. Raises Problem."""
    return _python_with(RAY, "ray", cache, python)


def _python_with(packages: tuple[str, ...], name: str, cache: Path, python: Path) -> Path:
    folder = cache / f"{name}-{hashlib.sha256(str(python).encode()).hexdigest()[:12]}"
    added = Environment(
        folder, packages, 1 * GB, LOCKS / f"{name}.txt", creator=str(python), sites=site_folders(python)
    )
    added.ensure(cache / "lock")
    return added.python
