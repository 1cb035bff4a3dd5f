"""`run.py test`: which checks it runs, which tests, and what its last line says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NO_WINDOWS = pytest.mark.skipif(os.name == "nt", reason="POSIX only: made of shell scripts and signals")


TOOL = """#!/bin/sh
echo "{name} $*; safe=$PYTHONSAFEPATH path=$PYTHONPATH comfyui=$COMFYUI_PATH" >> {log}
[ {name} != pytest ] || printf '%s' 'Skipped: 3 (no Chromium).' > $LIKENESS_SKIPPED
exit {status}
"""


@pytest.fixture
def tools(tmp_path: Path):
    """Stands in for ruff, pyright and pytest; returns a function that makes them, of which some fail, and their log."""

    def make(*failing: str) -> Path:
        log = tmp_path / "log"
        for name in ("ruff", "pyright", "pytest"):
            (tmp_path / name).write_text(TOOL.format(name=name, log=log, status=int(name in failing)))
            (tmp_path / name).chmod(0o755)
        return log

    return make


@NO_WINDOWS
@pytest.mark.parametrize("failing", [(), ("ruff",), ("pyright",), ("pytest",), ("pyright", "pytest")])
def test_every_check_runs_and_the_last_line_tells(
    run, tools, tmp_path: Path, capfd: pytest.CaptureFixture[str], failing: tuple[str, ...]
):
    log = tools(*failing)
    status = run.run_tests(tmp_path / "python", {"COMFYUI_PATH": "/comfyui"}, ["-k", "rows"])
    assert status == int(bool(failing))
    assert sorted(log.read_text().splitlines()) == [  # pyright runs beside the others
        f"pyright --pythonpath {tmp_path / 'python'}; safe=1 path=/comfyui comfyui=/comfyui",
        "pytest -n 2 --dist loadfile --no-loadscope-reorder -k rows; safe=1 path= comfyui=/comfyui",
        "ruff check .; safe=1 path= comfyui=/comfyui",
        "ruff format --check .; safe=1 path= comfyui=/comfyui",
    ]
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("FAILED: " if failing else "All checks passed: ruff format, ruff check, pytest, pyright (")
    assert all(name in last for name in failing)
    assert "Skipped: 3 (no Chromium)." in last and "run.py test --full" in last


@NO_WINDOWS
@pytest.mark.parametrize("option", ["--quick", "--full"])
def test_a_part_or_more_than_usual_is_run(run, tools, tmp_path: Path, capfd: pytest.CaptureFixture[str], option: str):
    log = tools()
    assert run.run_tests(tmp_path / "python", {"COMFYUI_PATH": "/comfyui"}, [option, "-x"]) == 0
    lines = log.read_text().splitlines()
    (command,) = (line for line in lines if line.startswith("pytest "))
    assert len(lines) == 4
    last = capfd.readouterr().out.splitlines()[-1]
    assert option not in command and command.startswith("pytest -n 2 ") and " -x; " in command
    assert ("not full and not slow" in command) == ("benchmarks" in last) == (option == "--quick")
    assert (" -m  -x;" in command) == (option == "--full") and "--full" not in last


@NO_WINDOWS
@pytest.mark.parametrize(("options", "words"), [([], "test_workflow_runs"), (["--full"], " -m ;")])
def test_an_older_host_runs_a_cross_section_without_linters(
    run, tools, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], words: str
):
    log = tools()
    assert run.run_tests(tmp_path / "python", {"COMFYUI_PATH": "/comfyui"}, options, older=True) == 0
    (command,) = log.read_text().splitlines()
    assert command.startswith("pytest -n 2 ") and words in command
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("All checks passed: pytest (") and ("workflows in a server" in last) == (not options)


@pytest.mark.parametrize("part", ["QUICK", "CROSS_SECTION"])
def test_the_tests_of_a_part_are_there(run, part: str):
    paths = [argument for argument in getattr(run, part) if argument.startswith("tests/")]
    assert len(paths) >= 3 and all(run.names_tests(path) for path in paths)
    for path in paths:
        if "[" in path:
            assert (ROOT / "workflows" / "api" / f"{path.partition('[')[2].removesuffix(']')}.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["tests/kernels"], ["tests/kernels"]),
        (["tests/demo/launcher/test_run.py::test_x", "-x"], ["tests/demo/launcher/test_run.py::test_x", "-x"]),
        (["--full", "tests/browser"], ["-m", "", "tests/browser"]),
    ],
)
def test_named_tests_run_alone(run, handed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments, command):
    monkeypatch.chdir(tmp_path)
    assert run.run_tests(tmp_path / "python", {"COMFYUI_PATH": "/comfyui"}, arguments) == 0
    [(handed_over, variables)] = handed
    assert Path(handed_over[0]).stem == "pytest" and handed_over[1:] == command
    assert variables["PYTHONSAFEPATH"] == "1" and Path.cwd() == ROOT
    with pytest.raises(run.Problem, match="--quick"):
        run.run_tests(tmp_path / "python", {"COMFYUI_PATH": "/comfyui"}, ["--quick", *arguments])


@pytest.mark.parametrize("argument", ["demo", "kernels", "-x", "tests/nothing.py", ""])
def test_what_names_no_tests_is_an_option_of_pytest(run, argument: str):
    assert not run.names_tests(argument)
