"""Fixtures: one ComfyUI per folder of tests, with the pack installed as users do it: cloned into custom_nodes,
requirements by pip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from likeness.demo.launcher import host as hosting
from likeness.kernels.jedi import MASK_FIRST
from likeness.patching.jedi.format import JointFormat
from likeness.tests import tiny_segmenter
from likeness.tests.demo import tiny_checkpoint
from likeness.tests.random_weights import fill
from safetensors.torch import save_file


def clone(source: Path, target: Path) -> None:
    """`git clone`, plus what is not committed yet, so that files which a clone would lack are missed here, too."""

    def git(*arguments: str) -> str:
        trusted = ("-c", "safe.directory=*")  # the checkout may belong to another user
        return subprocess.run(
            ["git", *trusted, *arguments], capture_output=True, text=True, check=True, encoding="utf-8"
        ).stdout

    git("clone", "--quiet", "--depth", "1", f"file://{source.as_posix()}", str(target))
    for name in filter(None, git("-C", str(source), "ls-files", "-z", "-m", "-o", "--exclude-standard").split("\0")):
        copy = target / name
        if (source / name).exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, copy)
        else:
            copy.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def pack(tmp_path_factory):
    """The installed pack's folder, in a private base directory."""
    base = tmp_path_factory.mktemp("comfyui")
    installed = base / "custom_nodes" / "likeness"
    hosting.make_folders(base)
    if shutil.which("git") and (hosting.PACK / ".git").exists():
        clone(hosting.PACK, installed)
    else:  # an archive of the sources
        hosting.install(hosting.PACK, base / "custom_nodes")
    fill(installed / "demo" / "weights")
    hosting.share_models(installed, base)
    return installed


@pytest.fixture(scope="session")
def host(pack):
    pip = [sys.executable, "-m", "pip", "install", "--no-input", "-r", "requirements.txt"]
    done = subprocess.run(pip, cwd=pack, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tiny_segmenter.write(pack.parents[1] / "models" / "sams")
    write_joint_checkpoint(pack.parents[1] / "models" / "checkpoints")
    with hosting.Host(Path(os.environ["COMFYUI_PATH"]), base=pack.parents[1]) as running:
        yield running


def write_joint_checkpoint(folder: Path) -> None:
    """A joint checkpoint of random weights, under the name that the shipped workflow asks for."""
    tensors = tiny_checkpoint.tensors(in_channels=9)
    save_file(tensors, folder / "joint.safetensors", metadata=JointFormat(MASK_FIRST).metadata())


@pytest.fixture(scope="session")
def client(host):
    return host.client
