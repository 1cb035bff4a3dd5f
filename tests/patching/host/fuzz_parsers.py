"""Fuzzes a parser by coverage, from its seeds and the texts of a folder, to which it adds what reaches new code:

    pip install atheris
    COMFYUI_PATH=... python tests/patching/host/fuzz_parsers.py NAME [FOLDER] [-max_total_time=600]

The names are those of `parsers.py`; further options are libFuzzer's.
"""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports] - installed for this alone

runpy.run_path(str(Path(__file__).resolve().parents[2] / "conftest.py"))
sys.argv, arguments = sys.argv[:1], sys.argv[1:]
with atheris.instrument_imports(include=["likeness", "json"]):
    import folder_paths
    from likeness.tests.patching.host import parsers


def main() -> None:
    parser = parsers.PARSERS[arguments[0]]
    output = tempfile.mkdtemp(prefix="parsers-")
    folder_paths.set_output_directory(output)
    seeds = Path(tempfile.mkdtemp(prefix="seeds-"))
    for number, seed in enumerate(parser.seeds()):
        (seeds / str(number)).write_text(seed, encoding="utf-8")

    def one(data: bytes) -> None:
        parser.check(data.decode("utf-8", "surrogateescape"))

    atheris.Setup([sys.argv[0], *arguments[1:], str(seeds)], one)
    atheris.Fuzz()


main()
