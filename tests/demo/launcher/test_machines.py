"""Machines for which pip has no torch, or another one than the GPU needs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from likeness.demo.launcher import pip_failures
from likeness.tests.demo.launcher.fake_programs import LOCKED, Bench, refused

INDEX = "https://example.org/whl/cpu"


def packages(bench: Bench) -> list[str]:
    return (bench.environment().venv / "packages").read_text().splitlines()


def test_torch_comes_from_the_index_that_is_named(bench: Bench):
    bench.ensure(index=INDEX)
    first, second = packages(bench)
    assert first == f"--index-url {INDEX} torch==1" and second == f"{LOCKED} {bench.locks()[1]}"
    count = len(bench.programs.calls)
    assert bench.ensure().is_ready() and bench.ensure(index=INDEX).is_ready()  # what is there will do
    assert len(bench.programs.calls) == count
    assert not bench.environment(index=f"{INDEX}/other").is_ready()


@pytest.mark.parametrize(
    ("system", "processor", "said"),
    [
        ("darwin", "x86_64", "PyTorch has made none for Intel Macs since 2.2"),
        ("win32", "ARM64", "install the x64 Python, which Windows on Arm emulates"),
        ("linux", "riscv64", "set LIKENESS_TORCH_INDEX"),
    ],
)
def test_a_machine_without_torch_is_told_what_to_do(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, system: str, processor: str, said: str
):
    bench.programs.fails["install"] = ["ERROR: No matching distribution found for torch==2.11.0"]
    monkeypatch.setattr(pip_failures.platform, "machine", lambda: processor)
    monkeypatch.setattr(pip_failures, "sys", SimpleNamespace(platform=system, version_info=(3, 12)))
    sentence = refused(bench)
    assert said in sentence and f"on {system} {processor}" in sentence and "COMFYUI_PATH" in sentence


@pytest.mark.parametrize(
    ("listed", "amd", "maker"),
    [("GPU 0: NVIDIA H100 (UUID: GPU-1)\n", False, "NVIDIA"), ("", True, "AMD"), (None, False, None)],
)
def test_a_gpu_is_found_by_its_driver(
    monkeypatch: pytest.MonkeyPatch, listed: str | None, amd: bool, maker: str | None
):
    serve = pytest.importorskip("likeness.demo.launcher.serve")

    def run(*_arguments, **_options):
        if listed is None:
            raise FileNotFoundError("nvidia-smi")
        return subprocess.CompletedProcess([], 0, listed)

    monkeypatch.setattr(serve.subprocess, "run", run)
    monkeypatch.setattr(Path, "exists", lambda _path: amd)
    assert serve.maker_of_gpu() == maker
    assert maker is None or serve.WHEELS[maker]
