"""Commands of run.py: their ComfyUI and Python, their checks, and their exit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NO_WINDOWS = pytest.mark.skipif(os.name == "nt", reason="POSIX only: made of shell scripts and signals")


@pytest.fixture
def comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a user's ComfyUI, without a Python."""
    folder = tmp_path / "my files" / "ComfyUI"
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("")
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    return folder


def make_python(venv: Path, torch: bool = True) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    if torch:
        Path(packages, "torch").mkdir()
        Path(packages, "torch", "__init__.py").write_text("")
    return python


def started(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        timeout=60,
    )


@pytest.mark.parametrize("place", ["venv", ".venv", "../venv", "../.venv"])
def test_the_users_comfyui_runs_with_the_python_beside_it(run, handed, comfyui: Path, place: str):
    make_python(comfyui / "venv", torch=False)
    python = make_python((comfyui / place).resolve())
    assert run.main(["bench", "tinyland", "--quick"]) == 0
    [(command, variables)] = handed
    assert Path(command[0]).samefile(python)
    assert Path(command[0]).parent == python.parent  # the environment's own, not what it links to
    assert command[1:] == [str(ROOT / "demo" / "launcher" / "launch.py"), "bench", "tinyland", "--quick"]
    assert variables["COMFYUI_PATH"] == str(comfyui)
    assert not (comfyui.parent.parent / "cache").exists()


def test_likeness_python_names_another(run, handed, comfyui: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_python(comfyui / "venv")
    named = make_python(tmp_path / "named")
    monkeypatch.setenv("LIKENESS_PYTHON", str(named))
    run.main(["demo"])
    assert handed[0][0][0] == str(named)


@pytest.mark.parametrize(
    ("arguments", "with_ray"),
    [
        (["evaluate", "generate", "out", "--ray", "local"], True),
        (["evaluate", "--smoke", "--ray=local"], True),
        (["s3", "make", "out", "--ray", "auto"], True),
        (["s3", "--smoke"], False),
        (["ray", "start", "--head"], True),
        (["evaluate", "generate", "out"], False),
    ],
)
def test_ray_has_a_python_of_its_own(run, handed, comfyui: Path, tmp_path: Path, monkeypatch, arguments, with_ray):
    python, added = make_python(comfyui / "venv"), tmp_path / "added" / "python"
    monkeypatch.setattr(run.install, "ray_python", lambda cache, host: added if host == python else None)
    run.main(arguments)
    [(command, variables)] = handed
    assert command[0] == str(added if with_ray else python) and command[2:] == arguments
    assert variables["LIKENESS_PYTHON"] == str(python)  # the servers' own


def test_a_named_python_without_torch_is_refused(
    run, handed, comfyui: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_python(comfyui / "venv")
    monkeypatch.setenv("LIKENESS_PYTHON", str(make_python(tmp_path / "named", torch=False)))
    with pytest.raises(run.Problem, match="LIKENESS_PYTHON"):
        run.main(["demo"])
    assert not handed


def test_no_python_for_the_users_comfyui_is_one_sentence(run, handed, comfyui: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run.sys, "executable", str(make_python(comfyui.parent / "bare", torch=False)))
    with pytest.raises(run.Problem, match="LIKENESS_PYTHON"):
        run.main(["demo"])


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["dance"], {}, "There is no command dance: use one of demo, serve, test, bench, train, evaluate, s3, ray."),
        (
            ["demo", "--host", "0.1.0"],
            {},
            "There is no pinned ComfyUI for --host 0.1.0: use one of 0.30.0, 0.24.0, 0.18.0.",
        ),
        (["demo", "--host"], {}, "use one of 0.30.0"),
        (
            ["demo", "--host", "0.24.0"],
            {"COMFYUI_PATH": "/mine"},
            "--host 0.24.0 asks for a private ComfyUI, but COMFYUI_PATH is /mine: ",
        ),
        (["demo"], {"COMFYUI_PATH": str(ROOT / "tests")}, "COMFYUI_PATH is "),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], variables: dict[str, str], said: str, tmp_path: Path):
    ended = started(*arguments, LIKENESS_CACHE=str(tmp_path / "cache"), **variables)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert ended.stderr.startswith("run.py: ")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere; Windows has other rights")
def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    tmp_path.chmod(0o500)
    ended = started("demo", LIKENESS_CACHE=str(tmp_path / "cache"))
    assert ended.returncode == 1
    assert "set LIKENESS_CACHE" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_cache_below_a_file_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    ended = started("demo", LIKENESS_CACHE=str(tmp_path / "file" / "cache"))
    assert ended.returncode == 1
    assert "set LIKENESS_CACHE" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_help_installs_nothing(tmp_path: Path):
    for arguments in ([], ["--help"]):
        ended = started(*arguments, LIKENESS_CACHE=str(tmp_path / "cache"))
        assert ended.returncode == 0
        assert ended.stdout.startswith("python run.py demo | serve | test | bench | train")
    assert not (tmp_path / "cache").exists()


def test_the_host_may_be_chosen_before_and_after_the_command(run, handed, monkeypatch: pytest.MonkeyPatch):
    wanted = []
    monkeypatch.setattr(
        run.install,
        "private_comfyui",
        lambda _cache, version: wanted.append(version) or (Path("python"), Path("comfyui")),
    )
    run.main(["--host", "0.24.0", "demo", "-x"])
    run.main(["demo", "-x", "--host", "0.18.0"])
    run.main(["demo", "-x"])
    assert wanted == ["0.24.0", "0.18.0", "0.30.0"]
    assert all(command[-2:] == ["demo", "-x"] for command, _ in handed)


HAND_OVER = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("launcher", {path!r})
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)
sys.exit(run.hand_over([sys.executable, "-c", {code!r}], dict(os.environ)))
"""


def hand_over(code: str) -> subprocess.Popen[str]:
    text = HAND_OVER.format(path=str(ROOT / "run.py"), code=code)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def test_the_exit_status_of_a_command_is_run_pys_own():
    assert hand_over("import sys; sys.exit(7)").wait(30) == 7


@NO_WINDOWS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_gets_the_signals_and_ends_in_its_own_way(number: int):
    code = (
        "import os, signal, sys, time\n"
        "def end(n, f): os.write(1, b'stopped cleanly'); sys.exit(5)\n"
        f"signal.signal({int(number)}, end)\n"
        "os.write(1, b'up\\n')\n"
        "time.sleep(30)"
    )
    process = hand_over(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.communicate(timeout=10)[0] == "stopped cleanly"
    assert process.returncode == 5


@NO_WINDOWS
def test_sigterm_ends_a_running_check_too(comfyui: Path, tmp_path: Path):
    """Unlike other commands, `run.py test` keeps running, so it must stop the processes that it started."""
    copy = tmp_path / "repository"
    shutil.copytree(ROOT / "demo", copy / "demo", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    text = (ROOT / "run.py").read_text()
    shim = "def fake(cache, python):\n    return Path({!r})\ninstall.tools_python = fake\n\n\nif __name__".format(
        str(tmp_path / "bin" / "python")
    )
    (copy / "run.py").write_text(text.replace("if __name__", shim, 1))
    make_python(comfyui / "venv")
    (tmp_path / "bin").mkdir()
    for name in ("ruff", "pyright", "pytest"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nsleep 1\necho $$ > {tmp_path / 'pid'}\nexec sleep 60\n")
        (tmp_path / "bin" / name).chmod(0o755)
    process = subprocess.Popen([sys.executable, str(copy / "run.py"), "test"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
