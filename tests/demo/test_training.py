"""What the trainers write, on few steps."""

from __future__ import annotations

import hashlib

import pytest
import safetensors
import torch
from likeness.demo.training import autoencoder, command, personal
from likeness.demo.training.loop import WEIGHTS, commit

PARTS = ("autoencoder", "decoder", "denoiser", "judge", "subjects", "embeddings")
CPU = torch.device("cpu")


@pytest.mark.parametrize(("train", "folder"), [(personal.train_lora, "subjects"), (personal.train_embedding, "embeddings")])
def test_what_is_tuned_names_the_weights_that_it_is_tuned_on(monkeypatch, tmp_path, train, folder):
    monkeypatch.setattr(personal, "WEIGHTS", tmp_path)
    train("nemo", 1, autoencoder.build(CPU), CPU)
    with safetensors.safe_open(tmp_path / folder / "nemo.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["denoiser"] == hashlib.sha256((WEIGHTS / "denoiser.safetensors").read_bytes()).hexdigest()[:16]
    assert metadata["steps"] == "1" and metadata["seed"] == "0"


def test_without_git_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == "unknown"


@pytest.mark.parametrize(
    ("arguments", "parts"), [([], PARTS), (["all"], PARTS), (["--device", "cpu"], PARTS), (["judge"], ("judge",))], ids=str
)
def test_train_without_a_part_trains_all_in_order(monkeypatch, arguments, parts):
    from comfy.cli_args import args

    for name in ("cpu", "use_pytorch_cross_attention"):  # the command sets them for its process
        monkeypatch.setattr(args, name, getattr(args, name))
    trained = []
    for part in PARTS:
        monkeypatch.setattr(command, f"_train_{part}", lambda _options, steps, _device, part=part: trained.append((part, steps)))
    command.main(arguments)
    assert trained == [(part, command.DEFAULT_STEPS[part]) for part in parts]
