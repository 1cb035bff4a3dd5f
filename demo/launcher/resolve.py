"""Writes the locks of what `run.py` installs and the list of it, with uv (`pip install uv`).

  python -m demo.launcher.resolve [--upgrade NAME ...]

Versions stay where they still fit, but for those that --upgrade names. The requirements are those of the installed
private ComfyUIs: run `python run.py test --host VERSION` for a new one first.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

from . import locks, sbom
from .files import ROOT, Problem, text_of
from .install import cache_folder
from .pins import DEFAULT_HOST, HOSTS, RAY, TOOLS, TOOLS_OF_PYTHON_3_10, TORCH

OLDEST_PYTHON = "3.10"
HEAD = "# Made by `python -m demo.launcher.resolve`. pip refuses a file whose SHA-256 is not here.\n"
_OF_TORCH = re.compile(r"(torch|torchvision|torchaudio|triton|nvidia-.*|cuda-.*)")


def requirements_of(version: str) -> str:
    """Requirements of a ComfyUI and of the pack. Raises Problem where that ComfyUI is not installed."""
    file = cache_folder() / f"host-{version}" / "ComfyUI" / "requirements.txt"
    if not file.is_file():
        raise Problem(f"There is no {file}: run `python run.py test --host {version}` first.")
    return text_of(file) + "\n" + text_of(ROOT / "requirements.txt")


def resolve(asked: str, known: str, upgrade: list[str], within: str = "") -> list[locks.Package]:
    """Entries for all systems and every Python from OLDEST_PYTHON on.

    asked: requirements. known: a lock whose versions are kept. within: a lock whose versions are binding.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "asked.txt").write_text(asked, encoding="utf-8")
        (Path(folder) / "within.txt").write_text(within, encoding="utf-8")
        (Path(folder) / "lock.txt").write_text(known, encoding="utf-8")
        options = ["--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes", "--quiet", "--no-header"]
        options += [f"--upgrade-package={name}" for name in upgrade]
        command = ["uv", "pip", "compile", *options, "-c", "within.txt", "-o", "lock.txt", "asked.txt"]
        subprocess.run(command, cwd=folder, check=True)
        return locks.read((Path(folder) / "lock.txt").read_text(encoding="utf-8"))


def tools_for_all() -> str:
    """Requirements of the tests' tools, with the older versions for Python 3.10."""
    older = {tool.partition("==")[0]: tool for tool in TOOLS_OF_PYTHON_3_10}
    asked = [f"{tool} ; python_version < '3.11'" for tool in older.values()]
    for tool in TOOLS:
        asked.append(f"{tool} ; python_version >= '3.11'" if tool.partition("==")[0] in older else tool)
    return "\n".join(asked)


def write(name: str, packages: list[locks.Package]) -> str:
    """Writes a lock and returns its text."""
    text = HEAD + "\n".join("\n".join(package.lines) for package in packages) + "\n"
    (locks.FOLDER / name).write_text(text, encoding="utf-8", newline="\n")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", nargs="*", default=[], metavar="NAME")
    upgrade = parser.parse_args().upgrade
    locks.FOLDER.mkdir(exist_ok=True)
    known = text_of(locks.FOLDER / locks.TORCH_LOCK) + text_of(locks.FOLDER / locks.host_lock(DEFAULT_HOST))
    torch = default = ""
    for version in HOSTS:
        # An older ComfyUI shares the default one's packages, and should need few of its own.
        found = resolve("\n".join(TORCH) + "\n" + requirements_of(version), default or known, upgrade)
        of_torch = [package for package in found if _OF_TORCH.fullmatch(package.name)]
        if version == DEFAULT_HOST:
            torch = write(locks.TORCH_LOCK, of_torch)
        elif locks.read(torch) != of_torch:
            raise Problem(f"ComfyUI {version} needs another torch than {DEFAULT_HOST}: change TORCH in pins.py.")
        text = write(locks.host_lock(version), [package for package in found if package not in of_torch])
        default = default or torch + text
    for name, asked in ((locks.TOOLS_LOCK, tools_for_all()), (locks.RAY_LOCK, "\n".join(RAY))):
        found = resolve(asked, text_of(locks.FOLDER / name), upgrade, within=default)
        write(name, [package for package in found if package.name not in locks.OF_THE_HOST])
    sbom.write()


if __name__ == "__main__":
    main()
