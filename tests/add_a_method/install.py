"""Adds the method to a copy of the pack as a contributor would: three new files, and two lines in the list of nodes."""

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("kernels/style_aligned.py", "patching/style_aligned/patch.py", "nodes/style_aligned.py")
MENU = "nodes/__init__.py"
IMPORT, ENTRY = "from .style_aligned import StyleAligned\n", "        StyleAligned,\n"


def install(pack: Path) -> None:
    """Copies FILES and writes IMPORT and ENTRY into MENU. Raises AssertionError where the pack has one of FILES."""
    for name in FILES:
        target = pack / name
        assert not target.exists(), f"{name} is in the pack already"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(HERE / name, target)
    lines = (pack / MENU).read_text(encoding="utf-8").splitlines(keepends=True)
    lines.insert(next(i for i, line in enumerate(lines) if line.startswith("from .") and line > IMPORT), IMPORT)
    lines.insert(lines.index("    ]\n"), ENTRY)
    (pack / MENU).write_text("".join(lines), encoding="utf-8")
