"""Ready files for machines and clusters: each is read as far as a parser goes, and its commands exist."""

import re
import shutil
import subprocess

import pytest
import yaml
from likeness.demo.launcher.files import ROOT
from likeness.demo.launcher.pins import DEFAULT_HOST, RAY
from likeness.lab.evaluate import command

FOLDER = ROOT / "lab" / "farm" / "examples"
FILES = sorted(FOLDER.iterdir())
RAY_COMMANDS = {"--version", "start", "stop", "up", "down", "exec", "get-auth-token", "symmetric-run"}


def commands(text):
    """Words of every call of run.py outside of sentences."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    for line in lines:
        for name, words in re.findall(r"python3? \S*run\.py (ray|evaluate) ((?:[^ '&]| (?! ))*)", line):
            yield name, words.partition(" -- ")[0].split()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_command_is_one(path):
    found = list(commands(path.read_text()))
    assert found, "expected a call of run.py"
    for name, words in found:
        if name == "ray":
            assert words[0] in RAY_COMMANDS
        else:
            options = command.parser().parse_args(words)
            assert options.run is command.generate_step and options.ray in ("local", "auto")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".sh"], ids=lambda path: path.name)
def test_scripts_are_shell(path):
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert "set -euo pipefail" in path.read_text()


def test_the_cluster_of_kubernetes_is_whole():
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"], cluster["authOptions"]) == ("ray.io/v1", "RayJob", {"mode": "token"})
    assert f"ray[data]=={cluster['rayVersion']}" in RAY
    [workers] = cluster["workerGroupSpecs"]
    assert f"--workers {workers['replicas']}" in job["spec"]["entrypoint"]
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} and "models" in mounted


def test_the_image_has_the_pinned_comfyui():
    assert f"host-{DEFAULT_HOST}/" in (FOLDER / "Dockerfile").read_text()


def test_the_cluster_of_a_cloud_is_whole():
    cluster = yaml.safe_load((FOLDER / "cluster.yaml").read_text())
    kinds = cluster["available_node_types"]
    assert cluster["head_node_type"] in kinds and kinds["gpu"]["max_workers"] <= cluster["max_workers"]
    starts = [line for key in ("head", "worker") for line in cluster[f"{key}_start_ray_commands"] if " start " in line]
    assert len(starts) == 2 and "--head" in starts[0] and "--address=$RAY_HEAD_IP" in starts[1]
    assert "~/.ray/auth_token" in cluster["file_mounts"]
