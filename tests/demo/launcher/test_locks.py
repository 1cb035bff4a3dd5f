"""Locks: what run.py installs, on every system, and the list that is made of them."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from likeness.demo.launcher import locks, resolve, sbom
from likeness.demo.launcher.pins import DEFAULT_HOST, HOSTS, TOOLS, TOOLS_OF_PYTHON_3_10, TORCH
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
COMFYUI = Path(os.environ["COMFYUI_PATH"]) if os.environ.get("COMFYUI_PATH") else None
LOCKS = {name: locks.read((locks.FOLDER / name).read_text(encoding="utf-8")) for name in locks.names()}
SYSTEMS = [("linux", "Linux", "x86_64"), ("win32", "Windows", "AMD64"), ("darwin", "Darwin", "arm64")]
MACHINES = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system[0],
        "platform_system": system[1],
        "platform_machine": system[2],
        "os_name": "nt" if system[0] == "win32" else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for python, system in itertools.product(("3.10", "3.11", "3.12", "3.13"), SYSTEMS)
]


def lines(text: str) -> list[str]:
    found = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [line for line in found if line]


def unmet(asked: list[str], found: list[locks.Package]) -> list[str]:
    """Requirements that no entry has, or that an entry does not satisfy."""
    missing = []
    for requirement in map(Requirement, asked):
        versions = [package.version for package in found if package.name == requirement.name.lower()]
        if not versions or not all(requirement.specifier.contains(version) for version in versions):
            missing.append(str(requirement))
    return missing


def test_every_requirement_is_locked():
    own = lines((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    newer = [p for p in LOCKS[locks.TOOLS_LOCK] if not p.marker or Marker(p.marker).evaluate(MACHINES[-1])]
    assert unmet([*TORCH], LOCKS[locks.TORCH_LOCK]) == [] and unmet([*TOOLS], newer) == []
    older = [p for p in LOCKS[locks.TOOLS_LOCK] if not p.marker or Marker(p.marker).evaluate(MACHINES[0])]
    assert unmet([*TOOLS_OF_PYTHON_3_10], older) == []
    assert own and all(unmet(own, LOCKS[locks.host_lock(version)]) == [] for version in HOSTS)
    assert unmet(["pytest==1", "nothing-of-this-name"], LOCKS[locks.TOOLS_LOCK]) == [
        "pytest==1",
        "nothing-of-this-name",
    ]


@pytest.mark.skipif(COMFYUI is None, reason="no COMFYUI_PATH")
def test_every_requirement_of_the_host_is_locked():
    assert COMFYUI is not None
    (version,) = re.findall(r'"(.+)"', (COMFYUI / "comfyui_version.py").read_text(encoding="utf-8"))
    if version not in HOSTS:
        pytest.skip("COMFYUI_PATH is no pinned ComfyUI")
    asked = lines((COMFYUI / "requirements.txt").read_text(encoding="utf-8"))
    assert len(asked) > 20
    assert unmet(asked, LOCKS[locks.TORCH_LOCK] + LOCKS[locks.host_lock(version)]) == []


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m['sys_platform']}-{m['python_version']}")
@pytest.mark.parametrize("lock", locks.names())
def test_every_machine_gets_one_version_of_a_package(lock: str, machine: dict[str, str]):
    here = [p for p in LOCKS[lock] if not p.marker or Marker(p.marker).evaluate(machine)]
    assert [name for name, count in Counter(p.name for p in here).items() if count > 1] == []
    assert {p.name for p in LOCKS[lock] if p.asked} <= {p.name for p in here}
    assert all(p.hashes for p in here)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m['sys_platform']}-{m['python_version']}")
@pytest.mark.parametrize("lock", [locks.TOOLS_LOCK, locks.RAY_LOCK])
def test_tools_leave_the_hosts_packages_alone(lock: str, machine: dict[str, str]):
    host, tools = (
        {p.name: p.version for name in names for p in LOCKS[name] if not p.marker or Marker(p.marker).evaluate(machine)}
        for names in ((locks.TORCH_LOCK, locks.host_lock(DEFAULT_HOST)), (lock,))
    )
    assert {name: version for name, version in tools.items() if host.get(name, version) != version} == {}
    assert set(locks.OF_THE_HOST) <= set(host) and not set(locks.OF_THE_HOST) & set(tools)


def test_torch_and_what_it_brings_have_a_lock_of_their_own():
    """Another index of torch stands in for this lock, and for no other package."""
    for lock, packages in LOCKS.items():
        large = {p.name for p in packages if re.match("torch(audio|vision)?$|nvidia|triton", p.name)}
        assert (lock == locks.TORCH_LOCK) == bool(large)


def test_a_lock_is_read_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "FOLDER", tmp_path)
    for name, packages in LOCKS.items():
        assert locks.read(resolve.write(name, packages)) == packages


def test_the_list_is_that_of_the_locks():
    assert sbom.FILE.read_text(encoding="utf-8") == sbom.text()
    made = sbom.document()
    listed = {part["bom-ref"] for part in made["components"]}
    assert {p.url for packages in LOCKS.values() for p in packages} <= listed
    edges = {entry["ref"]: set(entry["dependsOn"]) for entry in made["dependencies"]}
    assert set(edges) == {*listed, "likeness"} and set().union(*edges.values()) <= listed
    reached, new = set(), {"likeness"}
    while new:
        reached |= new
        new = set().union(*(edges[ref] for ref in new)) - reached
    assert reached == set(edges)
