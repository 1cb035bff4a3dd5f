"""Installations that are refused, and the sentence that each gives."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
from likeness.demo.launcher import environment, files, install
from likeness.demo.launcher.files import Problem
from likeness.tests.demo.launcher.fake_programs import (
    FAKE_COMFYUI,
    OFFLINE,
    VERSION,
    Bench,
    assert_whole,
    entry,
    pin,
    refused,
    set_free_disk,
    write_archive,
)


def test_a_wrong_hash_is_refused_before_any_package_is_installed(bench: Bench):
    write_archive(bench.programs.archive, {**FAKE_COMFYUI, "main.py": "evil"})
    assert "SHA-256" in refused(bench)
    assert "install" not in bench.programs.calls
    assert not bench.environment().comfyui.exists()
    write_archive(bench.programs.archive)


def test_pips_own_hash_check_is_told_as_such(bench: Bench):
    bench.programs.fails["download"] = [
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have"
    ]
    assert "SHA-256" in refused(bench)


@pytest.mark.parametrize(
    "member",
    [
        entry("top-1/vendor/ComfyUI/../../../escaped"),
        entry("top-1/vendor/ComfyUI/a/../../b"),
        entry("/vendor/ComfyUI/escaped"),
        entry("top-1/vendor/ComfyUI/..\\escaped"),
        entry("top-1/vendor/ComfyUI/C:escaped"),
        entry("top-1/vendor/ComfyUI/link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("top-1/vendor/ComfyUI/link", tarfile.LNKTYPE, "top-1/vendor/ComfyUI/main.py"),
        entry("top-1/vendor/ComfyUI/pipe", tarfile.FIFOTYPE),
        entry("top-1/vendor/ComfyUI/device", tarfile.CHRTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type.decode()}",
)
def test_unsafe_archives_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch, member: tarfile.TarInfo):
    write_archive(bench.programs.archive, extra=(member,))
    pin(monkeypatch, bench.programs.archive)
    assert "unsafe entry" in refused(bench)
    assert not bench.environment().comfyui.exists()
    assert not list(bench.cache.parent.rglob("escaped"))


def test_only_comfyui_is_unpacked(bench: Bench, tmp_path: Path):
    write_archive(
        bench.programs.archive,
        extra=(entry("top-1/vendor/Other/file"), entry("top-1/../../outside"), entry("top-1/setup.py")),
    )
    files.unpack(bench.programs.archive, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == sorted(FAKE_COMFYUI)


def test_another_comfyui_in_the_archive_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    write_archive(bench.programs.archive, {**FAKE_COMFYUI, "comfyui_version.py": '__version__ = "1.0.0"'})
    pin(monkeypatch, bench.programs.archive)
    assert f"not ComfyUI {VERSION}" in refused(bench)


GONE = [
    "ERROR: Could not find a version that satisfies the requirement x (from versions: none)",
    "ERROR: No matching distribution found for x==1",
]


def test_where_the_archive_is_gone_the_tag_is_cloned(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment.shutil, "which", lambda name: name)
    bench.programs.fails["download"] = GONE
    assert_whole(bench.ensure())
    assert "git" in bench.programs.calls


@pytest.mark.parametrize("git", [None, "git"])
def test_where_nothing_has_comfyui_the_way_out_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch, git: str | None):
    monkeypatch.setattr(environment.shutil, "which", lambda _name: git)
    bench.programs.fails |= {"download": GONE, "git": ["fatal: repository not found"]}
    assert "COMFYUI_PATH" in refused(bench)


@pytest.mark.parametrize("step", ["download", "install"])
def test_no_network_is_told_as_such_and_nothing_is_cloned(bench: Bench, step: str):
    bench.programs.fails[step] = [OFFLINE, *GONE]
    assert "no network" in refused(bench)
    assert "git" not in bench.programs.calls
    bench.programs.fails.clear()
    assert_whole(bench.ensure())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If", "SHA-256"),
        ("ERROR: No matching distribution found for torch==2.11.0", "There is no torch==2.11.0 for Python"),
        ("error: metadata-generation-failed", "install.log"),
    ],
)
def test_pips_other_failures_say_what_to_do(bench: Bench, line: str, said: str):
    bench.programs.fails["install"] = [line]
    assert said in refused(bench)


def test_a_python_without_venv_is_told_so(bench: Bench):
    bench.programs.fails["venv"] = [
        "The virtual environment was not created successfully because ensurepip is not available."
    ]
    assert "python3-venv" in refused(bench)
    assert not bench.environment().venv.exists()


def test_too_little_disk_is_refused_before_anything_is_written(bench: Bench):
    free = shutil.disk_usage(bench.cache.parent).free
    assert "GB" in refused(bench, needs=free * 2)
    assert not bench.programs.calls
    assert not list(bench.environment().folder.iterdir())


def test_what_an_interrupted_installation_holds_counts_as_free(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.programs.stop = ("install", "before")
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    held = files.size(bench.environment().folder)
    set_free_disk(monkeypatch, 10)
    assert "GB" in refused(bench, needs=held + 1000)
    assert bench.ensure(needs=held).is_ready()


def test_the_pinned_hosts_need_the_disk_that_the_readme_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    set_free_disk(monkeypatch, int(7.9 * 10**9))
    with pytest.raises(Problem, match=r"7\.9 GB of free disk and the installation needs 8 GB.*LIKENESS_CACHE"):
        install.private_comfyui(tmp_path)
