"""Ray's settings, and its absence."""

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from likeness.demo.launcher.files import ROOT, Problem
from likeness.lab.farm import cluster, options

NAMES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED", "RAY_process_group_cleanup_enabled")
NAMES = (*NAMES, "RAY_worker_niceness", "LIKENESS_PACK", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)


def test_a_token_is_asked_for():
    cluster.secured(cluster.new_token())
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["LIKENESS_PACK"] == str(ROOT) and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_settings_of_the_user_stay(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "k8s")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    cluster.secured()
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("k8s", "mine")
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is here")
def test_no_ray_is_one_sentence(tmp_path):
    chosen = argparse.Namespace(server=None, ray="local", workers=None, per_gpu=None)
    with pytest.raises(Problem, match=r"There is no Ray in .*: start this with `run.py`, which installs it"):
        options.crew(chosen, tmp_path, {}, cpu=True)


@pytest.mark.skipif(os.name == "nt", reason="POSIX only: sockets have short paths")
def test_a_long_temporary_folder_leaves_room_for_sockets(tmp_path, monkeypatch):
    places = []

    def init(_temp_dir, **_options):
        places.append(_temp_dir)
        raise OSError("AF_UNIX path length cannot exceed 103 bytes")

    fake = SimpleNamespace(init=init, shutdown=lambda: None, exceptions=SimpleNamespace(RayError=RuntimeError))
    fake.cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    chosen = argparse.Namespace(server=None, ray="local", workers=1, per_gpu=None)
    with pytest.raises(Problem, match=r"Ray at local cannot be used \(AF_UNIX path length cannot exceed 103 bytes\)"):
        options.crew(chosen, tmp_path, {}, cpu=True)
    [place] = places
    assert len(place) < 40 and not Path(place).exists()
