"""Locks: every package that `run.py` installs, in one version for each Python, with the hashes of its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .pins import HOSTS

FOLDER = Path(__file__).resolve().parent / "locks"
TORCH_LOCK, TOOLS_LOCK, RAY_LOCK = "torch.txt", "tools.txt", "ray.txt"
OF_THE_HOST = ("numpy", "pillow", "scipy")
"""Packages that tools and Ray need and never bring: other compiled packages of the host were built for its own."""
_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[\w,]*\])?==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+))?")


@dataclass(frozen=True)
class Package:
    """One entry. marker: where it is installed, empty for everywhere. asked: True for what a list of requirements
    names. needed_by: the other packages that need it. lines: as pip reads them."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    asked: bool
    needed_by: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def url(self) -> str:
        """Name in the notation of package URLs."""
        return f"pkg:pypi/{self.name}@{self.version}"


def host_lock(version: str) -> str:
    """File name of the lock for a ComfyUI: its own packages and the pack's, without torch."""
    return f"host-{version}.txt"


def names() -> tuple[str, ...]:
    """File names of all locks."""
    return (TORCH_LOCK, *map(host_lock, HOSTS), TOOLS_LOCK, RAY_LOCK)


def read(text: str) -> list[Package]:
    """Entries of a lock."""
    return [_package(lines) for lines in _blocks(text)]


def _blocks(text: str) -> Iterator[tuple[str, ...]]:
    found: list[str] = []
    for line in text.splitlines():
        if line and line[0] not in " #":
            if found:
                yield tuple(found)
            found = []
        elif not found:  # the head of the file
            continue
        found.append(line)
    if found:
        yield tuple(found)


def _package(lines: tuple[str, ...]) -> Package:
    stated = _ENTRY.match(lines[0])
    if stated is None:
        raise ValueError(f"Expected NAME==VERSION, got {lines[0]!r}; make the locks again.")
    text = "\n".join(lines)
    # The resolver notes behind an entry what needs it: packages, or "-r FILE" for what we ask for.
    noted = [line.strip().removeprefix("#").strip() for line in lines if line.strip().startswith("#")]
    needing = [line.removeprefix("via ") for line in noted if line != "via"]
    return Package(
        name=stated["name"].lower(),
        version=stated["version"],
        marker=(stated["marker"] or "").strip(),
        hashes=tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", text)),
        asked=any(name.startswith("-r ") for name in needing),
        needed_by=tuple(name for name in needing if not name.startswith("-")),
        lines=lines,
    )
