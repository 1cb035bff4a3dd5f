"""Training of the demo's model on shards: one step, written as the demo's own joint model is."""

import numpy as np
import pytest
import safetensors
import torch
from likeness.demo.training.denoiser import weights_digest
from likeness.kernels.jedi import MASK_FIRST
from likeness.lab.joint import checkpoint, finetune
from likeness.lab.joint.checkpoint import PREFIX
from likeness.lab.joint.command import main
from likeness.lab.joint.shards import Entry, write_shard
from likeness.lab.joint.tinyland import open_tinyland
from likeness.patching.jedi.format import JointFormat


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    """Restores the host's arguments, which the command sets for its process."""
    from comfy.cli_args import args

    for name in ("cpu", "use_pytorch_cross_attention"):
        monkeypatch.setattr(args, name, getattr(args, name))


def test_the_demo_model_is_trained_on_sets(monkeypatch, tmp_path):
    members = tuple(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2))
    write_shard(tmp_path / "sets" / "a.tar", iter([Entry("1", members, ("a red fish", "a fish at night"), {})]))
    out = tmp_path / "joint.safetensors"
    paths = ["--sets", str(tmp_path / "sets"), "--out", str(out), "--work", str(tmp_path / "work")]
    numbers = "--checkpoint tinyland --steps 1 --resolution 64 --batch 1 --set-sizes 2 --device cpu"
    monkeypatch.setattr(finetune, "recomputed", lambda _unet: pytest.fail("so small a network keeps its activations"))
    main(["joint", *paths, *numbers.split()])
    with safetensors.safe_open(out, framework="pt") as file:
        metadata, names = file.metadata(), list(file.keys())
        kinds = {file.get_slice(name).get_dtype() for name in names}
        first = file.get_slice(PREFIX + "input_blocks.0.0.weight").get_shape()
    assert JointFormat.of(metadata) == JointFormat(MASK_FIRST) and metadata["denoiser"] == weights_digest()
    assert (metadata["tinyland"], metadata["steps"], metadata["seed"]) == ("{}", "1", "0")
    assert kinds == {"F16"} and first[1] == 9 and all(name.startswith(PREFIX) for name in names)
    source = open_tinyland()
    assert source.velocity and source.resolution == 128 and torch.is_tensor(source.sigmas)


@pytest.mark.parametrize(("given", "wanted"), [("", (4000, 2e-4)), ("--steps 7 --learning-rate 1e-3", (7, 1e-3))])
def test_the_demo_model_has_its_own_steps_and_learning_rate(monkeypatch, tmp_path, given, wanted):
    seen = []
    monkeypatch.setattr(finetune, "train", lambda _work, _sources, _source, settings, _device: seen.append(settings))
    monkeypatch.setattr(checkpoint, "write_joint", lambda *_: None)
    members = (np.zeros((64, 64, 3), np.uint8),) * 2
    write_shard(tmp_path / "a.tar", iter([Entry("1", members, ("a red fish", "a fish at night"), {})]))
    paths = ["--sets", str(tmp_path), "--out", str(tmp_path / "joint.safetensors"), "--device", "cpu"]
    main(["joint", *paths, "--checkpoint", "tinyland", *given.split()])
    assert (seen[0].steps, seen[0].learning_rate) == wanted
    assert (checkpoint.Source.steps, checkpoint.Source.learning_rate) == (20_000, 1e-5)
