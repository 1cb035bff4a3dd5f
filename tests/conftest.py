"""Makes the pack importable as `likeness`, whatever its folder is called, and puts the host named by COMFYUI_PATH on
the path.

Without COMFYUI_PATH only the tests that need no host are collected.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
HOST = Path(os.environ["COMFYUI_PATH"]).resolve() if os.environ.get("COMFYUI_PATH") else None
TESTS = Path(__file__).resolve().parent
WITHOUT_HOST = ("kernels", "demo/launcher")
NEEDS_AIOHTTP = ("test_client.py", "test_picture.py")
WITH_SERVER = ("browser", "server")
LONGEST_FIRST = (*WITH_SERVER, "training", "benchmarks", "layout_and_retouch", "pick_and_draw", "jedi", "host")

settings.register_profile("untimed", deadline=None)  # a busy machine is no reason to fail
settings.load_profile("untimed")

_spec = importlib.util.spec_from_file_location("likeness_launch", ROOT / "demo" / "launcher" / "launch.py")
assert _spec is not None and _spec.loader is not None
_launch = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_launch)
_launch.alias_pack(HOST)

collect_ignore: list[str] = []
if HOST is None:
    kept = {TESTS / name for name in WITHOUT_HOST}
    kept |= {parent for folder in kept for parent in folder.parents}
    collect_ignore += [str(p) for p in (*TESTS.iterdir(), *(TESTS / "demo").iterdir()) if p.is_dir() and p not in kept]
    collect_ignore += [str(p) for p in (TESTS / "demo").rglob("test_*.py") if p.name in NEEDS_AIOHTTP]
else:
    _nodes = importlib.util.find_spec("nodes")
    assert _nodes is not None and _nodes.origin is not None, (
        f"COMFYUI_PATH: expected a ComfyUI folder with nodes.py, got {HOST}."
    )
    assert Path(_nodes.origin).resolve().parent == HOST, (
        f"`import nodes` must give ComfyUI's nodes.py in {HOST}, got {_nodes.origin}."
    )

    import torch
    from comfy.cli_args import args  # pyright: ignore[reportMissingImports]

    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        threads = max(1, torch.get_num_threads() // workers)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(
            threads
        )  # for the servers that the tests start: threads that outnumber the cores wait actively
    args.cpu = not torch.cuda.is_available()  # must be set before comfy.model_management looks for a device
    # As on GPUs, and faster than the CPU's own choice, which the servers of the tests make.
    args.use_pytorch_cross_attention = True


def pytest_report_header() -> str:
    return f"ComfyUI: {HOST or 'COMFYUI_PATH is not set, tests that need a host are left out'}"


def pytest_terminal_summary(terminalreporter) -> None:
    """Counts what was skipped by its reason; run.py repeats it in its last line."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        line = f"Skipped: {', '.join(f'{count} ({reason})' for reason, count in reasons.most_common())}."
        terminalreporter.write_line(line)
        if path := os.environ.get("LIKENESS_SKIPPED"):
            Path(path).write_text(line, encoding="utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keeps garbage collection away from the objects of modules and tests, which are many and stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _models_of_this_test():
    """Removes dead models from the host's list: each makes it collect garbage before every sampling."""
    yield
    if host := sys.modules.get("comfy.model_management"):
        host.current_loaded_models[:] = [model for model in host.current_loaded_models if not model.is_dead()]


def pytest_collection_modifyitems(items: list) -> None:
    """Files are handed to the processes in this order: what runs longest must not begin last."""
    rank = {folder: place for place, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.parent.name, len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives all tests of the shared ComfyUI to one process, so that it starts once, and every other file to one."""
    from xdist.scheduler import LoadFileScheduling

    class OneHost(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "host" if nodeid.split("/")[1] in WITH_SERVER else super()._split_scope(nodeid)

    return OneHost(config, log)


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the installed pack, in a private base directory."""
    from likeness.tests import hosting

    return hosting.install_pack(tmp_path_factory.mktemp("comfyui"))


@pytest.fixture(scope="session")
def host(pack: Path):
    """The one ComfyUI of this run, which all tests that need a server share."""
    from likeness.tests import hosting

    with hosting.running(pack) as running:
        yield running


@pytest.fixture(scope="session")
def client(host):
    return host.client
