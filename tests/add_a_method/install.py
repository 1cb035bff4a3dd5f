"""Adds the method to a copy of the pack as a contributor would: three new files, and two lines in the menu's list."""

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("kernels/style_aligned.py", "patching/style_aligned/patch.py", "nodes/style_aligned.py")
MENU = "nodes/__init__.py"
IMPORT, ENTRY = "    from .style_aligned import StyleAligned\n", "        StyleAligned,\n"
LIST = "    return [\n"


def install(pack: Path) -> None:
    """Changes no file of the pack but MENU. Raises AssertionError where the pack has one of FILES already."""
    for name in FILES:
        target = pack / name
        assert not target.exists(), f"{name} is in the pack already"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(HERE / name, target)
    menu = (pack / MENU).read_text(encoding="utf-8")
    before, after = menu.split(f"\n{LIST}")
    (pack / MENU).write_text(f"{before}{IMPORT}\n{LIST}{ENTRY}{after}", encoding="utf-8")
