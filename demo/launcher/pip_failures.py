"""Sentences for what pip says when it fails. Standard library only."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

from .files import Problem

NO_NETWORK = re.compile(
    r"connection|resolution|getaddrinfo|timed out|timeout|unreachable|proxy|SSLError", re.IGNORECASE
)


class NoNetwork(Problem):
    """pip could not reach its package index."""


def cause(output: list[str], folder: Path, log: Path) -> Problem:
    """The error for the lines of a failed pip. folder: of the installation. log: the file that has all lines."""
    if offline(output):
        return NoNetwork(
            "There is no network, or pip's package index does not answer: connect, or set pip's proxy, and run again."
        )
    if any("DO NOT MATCH THE HASHES" in line for line in output):
        return Problem(
            f"pip got a file whose SHA-256 is not the locked one and did not install it (see {log}): run again over a "
            "network that you trust, without package indexes of your own in pip's settings."
        )
    if any("No space left" in line or "not enough space" in line for line in output):
        return Problem(
            f"The disk of {folder} is full: free some, or set LIKENESS_CACHE to another disk, and run again."
        )
    missing = [line.rpartition(" for ")[2] for line in output if "No matching distribution found for" in line]
    if missing:
        return Problem(
            f"There is no {missing[0]} for {machine()}: {way_out()}, or set COMFYUI_PATH to your own ComfyUI."
        )
    return Problem(f"pip failed, its output is in {log}: run the same command again.")


def offline(output: list[str]) -> bool:
    """True where pip could not reach its index."""
    return any(NO_NETWORK.search(line) for line in output if line.startswith(("WARNING", "ERROR")))


def machine() -> str:
    """Python and system of this process, for a sentence."""
    return f"Python {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform} {platform.machine()}"


def way_out() -> str:
    """Advice where PyTorch has no package for this machine."""
    kind = (sys.platform, platform.machine().lower())
    if kind == ("darwin", "x86_64"):
        return "PyTorch has made none for Intel Macs since 2.2, so use another machine"
    if kind == ("win32", "arm64"):
        return "install the x64 Python, which Windows on Arm emulates, and run this with it"
    return "use a 64-bit Python 3.10 to 3.13, set LIKENESS_TORCH_INDEX to an index that has it"
