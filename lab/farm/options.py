"""Options of a command that draws on a farm."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...demo.launcher.files import Problem
from .actors import Actors
from .crew import AHEAD, Crew, Threads
from .process import Process
from .servers import OwnServer, Server
from .task import key_of
from .worker import Worker


def add(parser: argparse.ArgumentParser, servers: bool = True) -> None:
    """Adds the options to a command's parser. servers: its workers are ComfyUIs; otherwise processes without one."""
    where, kind = parser.add_mutually_exclusive_group(), "ComfyUIs" if servers else "processes"
    if servers:
        where.add_argument("--server", nargs="+", metavar="HOST:PORT", help="ComfyUIs that run already")
    else:
        parser.set_defaults(server=None)
    where.add_argument("--ray", metavar="local|auto|ADDRESS", help="draw on the GPUs of this machine or of a cluster")
    parser.add_argument("--workers", type=int, metavar="N", help=f"{kind} at a time; one, or with --ray one a GPU")
    parser.add_argument("--per-gpu", type=int, metavar="N", help=f"with --ray: {kind} that share a GPU (1)")


def check(options: argparse.Namespace) -> None:
    """Raises Problem for options that do not go together."""
    for name, value in (("--workers", options.workers), ("--per-gpu", options.per_gpu)):
        if value is not None and value < 1:
            raise Problem(f"{name} is {value}, expected 1 or more: change it.")
    if options.per_gpu and not options.ray:
        raise Problem("--per-gpu shares the GPUs that Ray finds: add --ray local, or leave it out.")
    if options.server and options.workers:
        raise Problem("--workers counts ComfyUIs of our own, and --server names yours: leave one of the two out.")


def crew(
    options: argparse.Namespace,
    work: Path,
    folders: Mapping[str, str],
    *,
    cpu: bool,
    say: Callable[[str], Any] = print,
) -> Crew:
    """Crew that the options ask for. work: folder of our own servers. folders: places of weights. Raises Problem."""
    check(options)
    if options.server:
        return Threads([Worker(Server(address)) for address in dict.fromkeys(options.server)], AHEAD)
    if not options.ray:
        bases = [work] if options.workers is None else [work / str(number) for number in range(options.workers)]
        return Threads([Worker(OwnServer(base, folders, cpu)) for base in bases], AHEAD)
    # Other machines need not have the folder of the results.
    place = str(work) if options.ray == "local" else key_of(str(work))

    def arguments(number: int) -> dict[str, Any]:
        return {"base": f"{place}/{number}", "folders": dict(folders), "cpu": cpu}

    per_gpu = None if cpu else options.per_gpu or 1
    return Actors(options.ray, "lab.farm.worker:own", arguments, size=options.workers, per_gpu=per_gpu, say=say)


def processes(
    options: argparse.Namespace,
    maker: str,
    arguments: Mapping[str, Any],
    *,
    cpu: bool,
    say: Callable[[str], Any] = print,
) -> Crew:
    """Crew of processes without a ComfyUI of their own. maker: as of Actor. Raises Problem."""
    check(options)
    if not options.ray:
        return Threads([Process(maker, arguments) for _ in range(options.workers or 1)])
    per_gpu = None if cpu else options.per_gpu or 1
    return Actors(options.ray, maker, lambda _number: arguments, size=options.workers, per_gpu=per_gpu, say=say)
