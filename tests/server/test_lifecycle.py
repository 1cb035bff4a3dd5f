"""`run.py bench lifecycle`: a few of its runs on the running ComfyUI, and a kill of a stand-in."""

import os
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from likeness.benchmarks import host_options, lifecycle
from likeness.benchmarks.lifecycle import MIB
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def prompts():
    found = host_options.shorter(host_options.PLAIN)
    for node in found.values():
        small = {"steps": 12, "width": 64, "height": 64}
        node["inputs"] |= {key: value for key, value in small.items() if key in node["inputs"]}
    return {host_options.PLAIN: found}


def test_runs_are_compared_and_interrupted(client, prompts):
    runs = lifecycle.Runs(client, random.Random(0))
    assert lifecycle.long_life(runs, prompts, 3, memory=iter([10.0 * MIB, 14.0 * MIB]).__next__) == 4.0
    assert lifecycle.interrupted(runs, prompts, 1) == 1
    assert not runs.wrong
    (name,) = prompts
    runs.check(f"{name} 0", host_options.reseeded(prompts[name]), " of another seed")
    assert runs.wrong == [f"{name} 0 of another seed: another picture"]


@pytest.mark.parametrize("left", [False, True])
def test_a_server_is_killed_while_it_saves(tmp_path, left):
    """left: an earlier kill has left a file of the same name."""
    half = tmp_path / "likeness" / "half.tmp"
    half.parent.mkdir()
    if left:
        half.write_bytes(b"half")
        os.utime(half, (1, 1))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def run(_prompt):
        half.write_bytes(b"half")
        process.wait(30)
        raise ConnectionError("gone")

    host = SimpleNamespace(client=SimpleNamespace(run=run), pid=process.pid)
    assert lifecycle.kill_while_saving(host, {}, tmp_path, random.Random(0))
    assert process.returncode == -lifecycle.KILL or sys.platform == "win32"


def test_a_run_that_saves_nothing_is_not_killed(tmp_path):
    (tmp_path / "half.tmp").write_bytes(b"left")
    host = SimpleNamespace(client=SimpleNamespace(run=lambda _prompt: None), pid=-1)
    assert not lifecycle.kill_while_saving(host, {}, tmp_path, random.Random(0))


def test_each_try_draws_anew_on_a_running_server(tmp_path, monkeypatch):
    """The first kill comes too late; the server that it ended is started again."""
    tried, hits = [], iter((False, True, True))

    class Ending:
        base, running, started = tmp_path, True, 0

        def stop(self):
            pass

        def start(self):
            self.running, self.started = True, self.started + 1

    def kill(host, prompt, _output, _rng):
        assert host.running
        tried.append(prompt["1"]["inputs"]["seed"])
        host.running = False
        return next(hits)

    host = Ending()
    runs = SimpleNamespace(check=lambda *_: None)
    monkeypatch.setattr(lifecycle, "shorter", lambda _name: {"1": {"class_type": "KSampler", "inputs": {"seed": 7}}})
    monkeypatch.setattr(lifecycle, "kill_while_saving", kill)
    assert lifecycle.killed(host, runs, 2, random.Random(0)) == (2, [])  # pyright: ignore[reportArgumentType]
    assert tried == [8, 9, 8] and host.started == 3


def test_half_files_are_found(tmp_path):
    whole, half = tmp_path / "a" / "whole.safetensors", tmp_path / "a" / "half.safetensors"
    whole.parent.mkdir()
    save_file({"x": torch.zeros(100)}, whole)
    half.write_bytes(whole.read_bytes()[:200])
    (tmp_path / "unfinished.tmp").write_bytes(b"half")
    assert lifecycle.half_files(tmp_path) == [half]
