"""Checks that the picture of the architecture shows today's code. Standard library only, without ComfyUI."""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "draw_architecture.py"
COMMAND = "python docs/draw_architecture.py"


def drawing():
    spec = importlib.util.spec_from_file_location("draw_architecture", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_up_to_date():
    found = drawing()
    kept = found.PICTURE.read_text(encoding="utf-8")
    same = kept == found.picture()  # compared here: a diff of long lines takes minutes
    assert same, f"docs/architecture.svg shows older imports; run {COMMAND}"


def test_each_folder_with_code_is_in_the_picture():
    found = drawing()
    tops = {path.relative_to(ROOT).parts[0] for folder in found.PURPOSES for path in found.files_of(folder)}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= tops, f"add {packages - tops} to PURPOSES in docs/draw_architecture.py"
    loose = [p for top in tops for p in (ROOT / top).rglob("*.py") if not found.folder_of(p)]
    assert [p for p in loose if p.name != "__init__.py"] == []


def test_an_import_is_an_arrow():
    found = drawing()
    known = found.imports()
    assert "patching/host" in known["patching/features"]
    assert known["kernels"] == set()
    assert not known["patching/jedi"] & {"patching/pick_and_draw", "patching/layout_and_retouch"}


def test_the_page_names_its_command():
    assert COMMAND in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_it_runs_on_its_own(tmp_path):
    """The documented command, on a copy whose folders are empty but for one file."""
    for folder in drawing().PURPOSES:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "one.py").write_text("")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "draw_architecture.py").write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, "docs/draw_architecture.py"], cwd=tmp_path, check=True)
    assert (tmp_path / "docs" / "architecture.svg").read_text(encoding="utf-8").startswith("<svg")
