"""Installs the pack as users do it, by cloning it and by pip, and starts ComfyUI with it."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from likeness.benchmarks.fuzz.server import NODES
from likeness.demo.launcher import host as hosting
from likeness.kernels.jedi import MASK_FIRST
from likeness.patching.jedi.format import JointFormat
from likeness.tests import tiny_segmenter
from likeness.tests.lab.joint import tiny_checkpoint
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


def install_pack(base: Path) -> Path:
    """Installs the pack into a private base directory; returns its folder."""
    installed = base / "custom_nodes" / "likeness"
    hosting.make_folders(base)
    if shutil.which("git") and (hosting.PACK / ".git").exists():
        clone(hosting.PACK, installed)
    else:  # an archive of the sources
        hosting.install(hosting.PACK, base / "custom_nodes")
    fill(installed / "demo" / "weights")
    hosting.share_models(installed, base)
    return installed


@contextlib.contextmanager
def running(pack: Path) -> Iterator[hosting.Host]:
    """A ComfyUI with the installed pack and the models that the shipped workflows ask for; it ends with the block."""
    pip = [sys.executable, "-m", "pip", "install", "--no-input", "-r", "requirements.txt"]
    done = subprocess.run(pip, cwd=pack, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    base = pack.parents[1]
    tiny_segmenter.write(base / "models" / "sams")
    write_joint_checkpoint(base / "models" / "checkpoints")
    shutil.copytree(NODES, base / "custom_nodes" / "likeness_fuzz", ignore=shutil.ignore_patterns("__pycache__"))
    with hosting.Host(Path(os.environ["COMFYUI_PATH"]), base=base) as host:
        yield host


def write_joint_checkpoint(folder: Path) -> None:
    """A joint checkpoint of random weights, under the name that the shipped workflow asks for."""
    tensors = tiny_checkpoint.tensors(in_channels=9)
    save_file(tensors, folder / "joint.safetensors", metadata=JointFormat(MASK_FIRST).metadata())
