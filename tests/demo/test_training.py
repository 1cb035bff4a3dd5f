"""What the trainers write, on few steps."""

from __future__ import annotations

import hashlib

import pytest
import safetensors
import torch
from likeness.demo.training import autoencoder, personal
from likeness.demo.training.loop import WEIGHTS

CPU = torch.device("cpu")


@pytest.mark.parametrize(("train", "folder"), [(personal.train_lora, "subjects"), (personal.train_embedding, "embeddings")])
def test_what_is_tuned_names_the_weights_that_it_is_tuned_on(monkeypatch, tmp_path, train, folder):
    monkeypatch.setattr(personal, "WEIGHTS", tmp_path)
    train("nemo", 1, autoencoder.build(CPU), CPU)
    with safetensors.safe_open(tmp_path / folder / "nemo.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["denoiser"] == hashlib.sha256((WEIGHTS / "denoiser.safetensors").read_bytes()).hexdigest()[:16]
    assert metadata["steps"] == "1" and metadata["seed"] == "0"
