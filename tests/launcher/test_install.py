"""Installing step by step, with a made-up pip: what is interrupted, missing, wrong or gone."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from likeness.demo.launcher import files, install
from likeness.demo.launcher.files import Problem
from likeness.demo.launcher.install import Environment

VERSION = "9.9.9"
STEPS = ("venv", "download", "install")
FAKE_COMFYUI = {"main.py": "", "comfyui_version.py": f'__version__ = "{VERSION}"', "requirements.txt": "front-end\n"}


def write_archive(path: Path, members: dict[str, str] = FAKE_COMFYUI, extra: tuple[tarfile.TarInfo, ...] = ()) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(f"top-1/vendor/ComfyUI/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        for member in extra:
            archive.addfile(member)


class FakePrograms:
    """Stands in for venv, pip and git. `stop` = (step, moment) ends one of them as Ctrl-C would: before, halfway or
    after its work."""

    def __init__(self, archive: Path):
        self.archive, self.calls, self.stop = archive, [], None
        self.fails: dict[str, list[str]] = {}  # step: what pip prints when it fails

    def __call__(self, environment: Environment, *command: str) -> tuple[int, list[str]]:
        step = "git" if command[0] == "git" else "venv" if "venv" in command[:3] else command[3]
        self.calls.append(step)
        if step in self.fails:
            return 1, self.fails[step]
        self._stop(step, "before")
        getattr(self, step)(environment, command)
        self._stop(step, "after")
        return 0, []

    def _stop(self, step: str, moment: str) -> None:
        if self.stop == (step, moment):
            self.stop = None
            raise KeyboardInterrupt

    def venv(self, environment: Environment, command: tuple[str, ...]) -> None:
        target = Path(command[-1])
        if self.stop == ("venv", "halfway"):
            target.mkdir()
            (target / "pyvenv.cfg").write_text("home = nowhere")
        self._stop("venv", "halfway")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)

    def download(self, environment: Environment, command: tuple[str, ...]) -> None:
        target = Path(command[command.index("-d") + 1]) / "archive-1.tar.gz"
        if self.stop == ("download", "halfway"):
            target.write_bytes(self.archive.read_bytes()[:50])
        self._stop("download", "halfway")
        shutil.copy(self.archive, target)

    def install(self, environment: Environment, command: tuple[str, ...]) -> None:
        if self.stop == ("install", "halfway"):
            (environment.venv / "half a package").write_text("")
        self._stop("install", "halfway")
        with (environment.venv / "packages").open("a") as log:
            log.write(" ".join(command[command.index("install") + 1 :]) + "\n")

    def git(self, environment: Environment, command: tuple[str, ...]) -> None:
        files.unpack(self.archive, Path(command[-1]))


class Bench(NamedTuple):
    programs: FakePrograms
    cache: Path

    def environment(self, **changes: Any) -> Environment:
        return Environment(
            self.cache / "host", **{"packages": ("torch==1",), "needs": 10, "version": VERSION, **changes}
        )

    def ensure(self, **changes: Any) -> Environment:
        environment = self.environment(**changes)
        environment.ensure(self.cache / "lock")
        return environment


def pin(monkeypatch: pytest.MonkeyPatch, archive: Path) -> None:
    monkeypatch.setitem(install.HOSTS, VERSION, ("1", install.hashlib.sha256(archive.read_bytes()).hexdigest()))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    archive = tmp_path / "archive.tar.gz"
    write_archive(archive)
    pin(monkeypatch, archive)
    programs = FakePrograms(archive)
    monkeypatch.setattr(Environment, "_run", lambda self, *command: programs(self, *command))
    return Bench(programs, tmp_path / "cache")


def assert_whole(environment: Environment) -> None:
    assert environment.is_ready()
    assert sorted(p.name for p in environment.folder.iterdir()) == ["ComfyUI", "ready.json", "venv"]
    assert {p.name: p.read_text() for p in environment.comfyui.iterdir()} == FAKE_COMFYUI
    assert (
        environment.venv / "packages"
    ).read_text() == f"torch==1\ntorch==1 -r {environment.comfyui / 'requirements.txt'}\n"
    assert not (environment.venv / "half a package").exists()


def refused(bench: Bench, **changes: Any) -> str:
    """The sentence of a failed installation, which leaves nothing that the next run would take for whole."""
    with pytest.raises(Problem) as problem:
        bench.ensure(**changes)
    left = {p.name for p in bench.environment(**changes).folder.glob("*")}
    assert left <= {"venv", "ComfyUI", "steps.json", "install.log"}, left
    sentence = str(problem.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_a_second_run_installs_nothing(bench: Bench):
    assert_whole(bench.ensure())
    assert bench.programs.calls == ["venv", "download", "install", "install"]
    assert_whole(bench.ensure())
    assert len(bench.programs.calls) == 4


@pytest.mark.parametrize("moment", ["before", "halfway", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_installation_is_repaired_by_running_again(bench: Bench, step: str, moment: str):
    bench.programs.stop = (step, moment)
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    assert not bench.environment().is_ready()
    assert_whole(bench.ensure())


def test_a_killed_run_leaves_no_more_than_the_next_one_clears(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """SIGKILL runs no `finally`: temporary folders and half a ComfyUI stay."""
    bench.programs.stop = ("download", "halfway")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            install,
            "remove",
            lambda path: None if path.name in ("tmp", "download", "ComfyUI.part") else files.remove(path),
        )
        bench.ensure()
    folder = bench.environment().folder
    assert (folder / "download" / "archive-1.tar.gz").stat().st_size == 50
    for left in ("tmp", "ComfyUI.part"):
        (folder / left).mkdir()
        (folder / left / "half").write_text("")
    assert_whole(bench.ensure())


def test_finished_steps_are_not_repeated(bench: Bench):
    bench.programs.stop = ("install", "before")
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    bench.programs.calls.clear()
    bench.ensure()
    assert "download" not in bench.programs.calls


def test_an_interrupt_before_the_last_word_is_not_ready(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def stop(path: Path, value: dict) -> None:
        if path.name == "ready.json":
            raise KeyboardInterrupt
        files.write_json(path, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(install, "write_json", stop)
        bench.ensure()
    assert not bench.environment().is_ready()
    assert_whole(bench.ensure())


def test_a_broken_python_is_replaced(bench: Bench):
    python = bench.ensure().python
    python.unlink()
    assert_whole(bench.ensure())


def test_an_interrupted_repair_is_not_ready_either(bench: Bench):
    bench.ensure().python.unlink()
    bench.programs.stop = ("install", "before")
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    assert not bench.environment().is_ready()
    assert_whole(bench.ensure())


def test_a_lost_comfyui_is_fetched_again(bench: Bench):
    shutil.rmtree(bench.ensure().comfyui)
    assert_whole(bench.ensure())


def test_other_packages_make_another_installation(bench: Bench):
    bench.ensure()
    later = bench.ensure(packages=("torch==2",))
    assert (later.venv / "packages").read_text().startswith("torch==2\n")
    assert not bench.environment().is_ready()


def test_changed_requirements_of_the_pack_are_installed_upon_the_rest(bench: Bench, tmp_path: Path):
    file = tmp_path / "requirements.txt"
    file.write_text("one\n")
    made = bench.ensure(requirements=file)
    packages = made.venv / "packages"
    first = packages.read_text()
    assert first.endswith(f"-r {file}\n")
    bench.ensure(requirements=file)
    assert packages.read_text() == first
    file.write_text("two\n")
    bench.ensure(requirements=file)
    assert packages.read_text() == f"{first}-r {file}\n"


@pytest.mark.parametrize("text", ["", "{", '{"recipe": {}, "done": ["python", "source", "packages"]}'])
def test_unreadable_records_are_no_records(bench: Bench, text: str):
    folder = bench.environment().folder
    folder.mkdir(parents=True)
    (folder / "steps.json").write_text(text)
    (folder / "ready.json").write_text(text)
    assert_whole(bench.ensure())


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


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


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
OFFLINE = (
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(': [Errno -3] Temporary "
    "failure')'"
)


def test_where_the_archive_is_gone_the_tag_is_cloned(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(install.shutil, "which", lambda name: name)
    bench.programs.fails["download"] = GONE
    assert_whole(bench.ensure())
    assert "git" in bench.programs.calls


@pytest.mark.parametrize("git", [None, "git"])
def test_where_nothing_has_comfyui_the_way_out_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch, git: str | None):
    monkeypatch.setattr(install.shutil, "which", lambda _name: git)
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
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(100, 90, 10))  # pyright: ignore
    assert "GB" in refused(bench, needs=held + 1000)
    assert bench.ensure(needs=held).is_ready()


def test_the_pinned_hosts_need_the_disk_that_the_readme_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(
        install.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(9 * 10**9, 0, int(7.9 * 10**9))
    )  # pyright: ignore
    with pytest.raises(Problem, match=r"7\.9 GB of free disk and the installation needs 8 GB.*LIKENESS_CACHE"):
        install.private_comfyui(tmp_path)


def test_a_private_python_sees_nothing_of_the_users(monkeypatch: pytest.MonkeyPatch):
    for name in install.LEFT_OUT:
        monkeypatch.setenv(name, "x")
    assert not set(install.LEFT_OUT) & set(install.environment())


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "comfyui-likeness"),
        ("linux", None, ".cache/comfyui-likeness"),
        ("darwin", None, "Library/Caches/comfyui-likeness"),
        ("win32", "LOCALAPPDATA", "comfyui-likeness"),
        ("win32", None, "AppData/Local/comfyui-likeness"),
    ],
)
def test_the_cache_is_where_the_platform_has_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variable, expected: str
):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(install, "WINDOWS", platform == "win32")
    monkeypatch.setattr(install.sys, "platform", platform)
    monkeypatch.setattr(install.Path, "home", lambda: tmp_path)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
    assert install.cache_folder() == tmp_path / expected
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "else"))
    assert install.cache_folder() == tmp_path / "else"


def test_records_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = tmp_path / "ready.json"
    files.write_json(record, {"a": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.write_json(record, {"a": 2})
    assert json.loads(record.read_text()) == {"a": 1}


@pytest.mark.parametrize(("free", "keeps"), [(3, True), (1.5, False)])
def test_pips_cache_is_used_where_the_disk_has_room_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, free: float, keeps: bool
):
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(9000, 0, int(free * 1000)))  # pyright: ignore
    installed = (bench.ensure(needs=1000).venv / "packages").read_text()
    assert ("--no-cache-dir" not in installed) == keeps
