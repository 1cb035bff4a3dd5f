#!/usr/bin/env python3
# ruff: noqa: E402, RUF005, UP010, UP031, UP036
"""python run.py demo | serve | test | bench | train | evaluate | s3 | ray

  demo    makes one personalized picture with a real ComfyUI, headless
            --full  four subjects in three scenes; --workers N, --ray ADDRESS or --server HOST:PORT  on several ComfyUIs
            --checkpoint FILE --photos FOLDER --subject WORD [--lora FILE]  with your own files; demo -h lists more
  serve   opens ComfyUI with the pack, its demo model and its workflows [--port N] [--no-browser] [--cpu]
  test    checks everything; further arguments go to pytest
            PATH ...  these tests alone, at once; --quick  a verdict in minutes; --full  the longest tests, too
  bench   runs one benchmark: bench NAME [--quick] [--json FILE] [--workers N | --ray local|auto|ADDRESS]
  train   trains the demo model, or a joint model of your own, resuming where it stopped
  evaluate  the papers' evaluation on your checkpoint: plan, generate, score, report; --smoke tries it on the demo model
  s3      makes JeDi's data set of sets of one subject: plan, check, make, show, calibrate; --smoke tries it
  ray     Ray's own commands, for a cluster that --ray ADDRESS draws on: ray start --head

The first run installs a private ComfyUI into a cache folder; your own Python and ComfyUI stay as they are.

  --host VERSION     uses another pinned ComfyUI: 0.30.0 (the default), 0.24.0 or 0.18.0; tests are a cross-section
  LIKENESS_CACHE     another folder than the user's cache
  LIKENESS_TORCH_INDEX  package index of torch, such as https://download.pytorch.org/whl/cpu
  COMFYUI_PATH       your own ComfyUI instead of the private one, with the Python found in or beside it
  LIKENESS_PYTHON    the Python of that ComfyUI, where it is elsewhere
"""

# An old Python must be able to parse this file to say that it is too old: no f-strings, no annotations, no stars in
# lists.
from __future__ import print_function

import sys

if sys.version_info < (3, 10):
    sys.exit(
        "run.py: needs Python 3.10 or newer, this one is %d.%d: install a newer one and run this with it."
        % sys.version_info[:2]
    )

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # not there in Python's safe-path mode

from demo.launcher import install
from demo.launcher.files import Problem
from demo.launcher.pins import DEFAULT_HOST, HOSTS
from demo.launcher.pythons import WINDOWS, ask, clean_variables, python_in

COMMANDS = ("demo", "serve", "test", "bench", "train", "evaluate", "s3", "ray")
# Every equation, every node, the patches' laws on one U-Net and three transformers, and each paper's workflow in a
# server.
QUICK_WITHOUT = ("sd2", "sdxl", "flux2", "chroma", "qwen", "lumina2", "krea2", "anima")
QUICK = ["tests/kernels", "tests/nodes", "tests/patching", "-m", "not full and not slow"]
QUICK += ["-k", " and ".join("not " + name for name in QUICK_WITHOUT)]
QUICK += [
    "tests/server/test_server.py::test_workflow_runs[%s]" % name
    for name in ("layout_and_retouch", "pick_and_draw", "jedi")
]
# The patches' laws on one U-Net shape, and every workflow in a server; the rest depends on no host.
CROSS_SECTION = ["tests/patching", "-k", "not sd2 and not sdxl", "-m", "not full and not slow"]
CROSS_SECTION += ["tests/server/test_server.py::test_%s" % name for name in ("every_node_is_listed", "workflow_runs")]
CROSS_SECTION_LEAVES_OUT = (
    "Left out with --host: all but tests/patching on one U-Net and the workflows in a server; --full runs everything."
)
QUICK_LEAVES_OUT = (
    "Left out: tests/add_a_method, benchmarks, browser, demo and docs, most of tests/server, the U-Nets of "
    "SD2 and SDXL, six transformers, and tests marked slow or full; python run.py test runs all but the last."
)
NOT_FULL = "Left out: tests marked full; python run.py test --full runs them."


def own_comfyui(folder):
    """The Python and the folder of the user's own ComfyUI."""
    comfyui = Path(folder).expanduser().resolve()
    if not (comfyui / "main.py").is_file() or not (comfyui / "comfy").is_dir():
        raise Problem(
            "COMFYUI_PATH is %s, where no ComfyUI is (main.py, comfy/): set it to ComfyUI's folder." % comfyui
        )
    named = os.environ.get("LIKENESS_PYTHON")
    places = [place / name for place in (comfyui, comfyui.parent) for name in ("venv", ".venv")]
    places += [Path(os.environ[name]) for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(name)]
    candidates = [python_in(place) for place in places]
    candidates += [comfyui.parent / "python_embeded" / "python.exe", Path(sys.executable)]
    code = (
        "import importlib.util, sys; print(sys.version_info >= (3, 10) and importlib.util.find_spec('torch') is not "
        "None)"
    )
    for python in [Path(named).expanduser()] if named else candidates:
        if python.is_file() and ask(python, code) == "True":
            return python.absolute(), comfyui
    tried = "LIKENESS_PYTHON is %s" % named if named else "looked in and beside %s" % comfyui
    raise Problem(
        "No Python 3.10 or newer with torch was found (%s): set LIKENESS_PYTHON to the one that runs ComfyUI." % tried
    )


def run_tests(python, variables, arguments, older=False):
    """Runs every check, whatever the one before said; 0 where all passed. Tests that are named run alone.

    older: the host is not the default one, so a cross-section runs, without linters.
    """
    started, failed = time.monotonic(), []
    tool = {name: str(python.parent / (name + (".exe" if WINDOWS else ""))) for name in ("ruff", "pyright", "pytest")}
    safe = clean_variables(**variables)
    safe["PYTHONSAFEPATH"] = "1"  # or the repository's nodes/ could hide ComfyUI's nodes.py
    quick, full = "--quick" in arguments, "--full" in arguments
    rest = [argument for argument in arguments if argument not in ("--quick", "--full")]
    if full:
        rest = ["-m", ""] + rest
    if any(names_tests(argument) for argument in rest):
        if quick:
            raise Problem("Expected --quick or the tests to run, got both: leave one of the two out.")
        os.chdir(str(ROOT))
        return hand_over([tool["pytest"]] + rest, safe)
    # In two processes; tests/conftest.py tells which files go to the same one.
    pytest = [tool["pytest"], "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    pytest += (QUICK if quick else CROSS_SECTION if older and not full else []) + rest
    ruff = [] if older else [("ruff format", ["format", "--check", "."]), ("ruff check", ["check", "."])]
    checks = [(name, [tool["ruff"]] + options) for name, options in ruff] + [("pytest", pytest)]
    with tempfile.TemporaryDirectory(prefix="likeness-") as folder:
        skipped, said = Path(folder) / "skipped", Path(folder) / "pyright"
        safe["LIKENESS_SKIPPED"] = str(skipped)
        beside = None
        if not older:  # beside the others, since it uses one core alone
            with said.open("wb") as output:
                beside = subprocess.Popen(
                    [tool["pyright"], "--pythonpath", str(python)],
                    cwd=str(ROOT),
                    env=dict(safe, PYTHONPATH=variables["COMFYUI_PATH"]),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        try:
            for name, command in checks:
                print("== " + name, flush=True)
                if subprocess.run(command, cwd=str(ROOT), env=safe).returncode != 0:
                    failed.append(name)
            if beside and beside.wait() != 0:
                failed.append("pyright")
        finally:
            if beside and beside.poll() is None:
                beside.kill()
                beside.wait()
        if beside:
            print("== pyright\n" + said.read_text(encoding="utf-8", errors="replace"), flush=True)
        left_out = [skipped.read_text(encoding="utf-8")] if skipped.is_file() else []
    left_out += [QUICK_LEAVES_OUT] if quick else [] if full else [CROSS_SECTION_LEAVES_OUT if older else NOT_FULL]
    passed = "All checks passed: " + ", ".join([name for name, _ in checks] + ["pyright"] * bool(beside))
    verdict = "FAILED: " + ", ".join(failed) if failed else passed
    print("%s (%.0f s). %s" % (verdict, time.monotonic() - started, " ".join(left_out)), flush=True)
    return 1 if failed else 0


def names_tests(argument):
    """True for the path of a test file or folder, or one test in it: tests/kernels/test_uremd.py::test_name."""
    path = (ROOT / argument.partition("::")[0]).resolve()
    return path.exists() and (ROOT / "tests") in [path] + list(path.parents)


def hand_over(command, variables):
    """Lets a program take this one's place, so that signals and the exit status are its own."""
    sys.stdout.flush()
    if not WINDOWS:
        os.execve(command[0], command, variables)
    process = subprocess.Popen(command, env=variables)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the program has got it too, and is ending
            continue


def main(arguments):
    version, chosen = DEFAULT_HOST, "--host" in arguments
    if chosen:
        at = arguments.index("--host")
        version, arguments = " ".join(arguments[at + 1 : at + 2]), arguments[:at] + arguments[at + 2 :]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print((__doc__ or "").strip())
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        raise Problem("There is no command %s: use one of %s." % (command, ", ".join(COMMANDS)))
    if version not in HOSTS:
        raise Problem("There is no pinned ComfyUI for --host %s: use one of %s." % (version, ", ".join(HOSTS)))
    cache, own = install.cache_folder(), os.environ.get("COMFYUI_PATH")
    if own and chosen:
        raise Problem(
            "--host %s asks for a private ComfyUI, but COMFYUI_PATH is %s: leave one of the two out." % (version, own)
        )
    python, comfyui = own_comfyui(own) if own else install.private_comfyui(cache, version)
    variables = {"COMFYUI_PATH": str(comfyui), "LIKENESS_CACHE": str(cache), "LIKENESS_PYTHON": str(python)}
    if command == "test":
        return run_tests(install.tools_python(cache, python), variables, rest, older=version != DEFAULT_HOST)
    if command == "bench" and "fuzz" in rest:
        python = install.tools_python(cache, python)  # it draws its graphs with hypothesis
    on_ray = any(word.partition("=")[0] == "--ray" for word in rest)
    if command == "ray" or (command in ("evaluate", "s3", "bench", "demo") and on_ray):
        python = install.ray_python(cache, python)  # ComfyUI keeps its own
    return hand_over(
        [str(python), str(ROOT / "demo" / "launcher" / "launch.py"), command] + rest, clean_variables(**variables)
    )


def end(number, frame):
    """SIGTERM ends Python without running any `finally`; as SystemExit it also ends what this program started."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        sys.exit("run.py: %s" % problem)
    except KeyboardInterrupt:
        sys.exit("run.py: stopped; the same command goes on from here.")
