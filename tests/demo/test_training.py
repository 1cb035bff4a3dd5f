"""What the trainers write, on few steps."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest
import safetensors
import torch
from likeness.demo.training import autoencoder, command, personal
from likeness.demo.training.loop import WEIGHTS, Trainer, commit
from PIL import Image

PARTS = ("autoencoder", "decoder", "denoiser", "judge", "subjects", "embeddings")
CPU = torch.device("cpu")


class Stopped(Exception):
    pass


@pytest.mark.parametrize(("train", "folder"), [(personal.train_lora, "subjects"), (personal.train_embedding, "embeddings")])
def test_what_is_tuned_names_the_weights_that_it_is_tuned_on(monkeypatch, tmp_path, train, folder):
    monkeypatch.setattr(personal, "WEIGHTS", tmp_path)
    train(tmp_path / "work", "nemo", 1, autoencoder.build(CPU), CPU)
    with safetensors.safe_open(tmp_path / folder / "nemo.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["denoiser"] == hashlib.sha256((WEIGHTS / "denoiser.safetensors").read_bytes()).hexdigest()[:16]
    assert metadata["steps"] == "1" and metadata["seed"] == "0"

    def stop(*_arguments):
        raise Stopped

    monkeypatch.setattr(personal, "velocity_loss", stop)
    train(tmp_path / "work", "nemo", 1, autoencoder.build(CPU), CPU)  # what is finished is not trained again
    monkeypatch.setattr(personal, "weights_digest", lambda: "of another model")
    with pytest.raises(Stopped):
        train(tmp_path / "work", "nemo", 1, autoencoder.build(CPU), CPU)


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


def toy(folder, stop_at: int | None = None, **settings) -> tuple[torch.nn.Module, Trainer]:
    """A small network trained for 60 steps, or stopped in the middle as by Ctrl-C."""
    torch.manual_seed(5)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    if "optimizer" in settings:
        settings["optimizer"] = torch.optim.AdamW(module.parameters(), 1e-2, weight_decay=0.0)
    trainer = Trainer("toy", folder, module, 60, 1e-2, CPU, save_every=-1.0, **settings)

    def loss_of_step(step: int) -> torch.Tensor:
        if step == stop_at:
            raise Stopped
        x = torch.randn(16, 4)
        return (module(x) - x.sum(1, keepdim=True)).square().mean()

    with pytest.raises(Stopped) if stop_at else contextlib.nullcontext():
        trainer.run(loss_of_step)
    return module, trainer


@pytest.mark.parametrize(
    "settings", [{}, {"average": 0.0, "optimizer": None, "rate_of_step": lambda step: 1e-2 - 1e-4 * step, "log_every": 1}]
)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path, settings):
    whole, trainer = toy(tmp_path / "whole", **settings)
    toy(tmp_path / "stopped", 31, **settings)
    resumed, other = toy(tmp_path / "stopped", **settings)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert trainer.losses == other.losses and other.step == 60 and trainer.losses[-1][1] < trainer.losses[0][1]
    assert sorted(p.name for p in (tmp_path / "stopped").iterdir()) == ["toy.checkpoint.pt", "toy.loss.png"]
    pixels = [np.asarray(Image.open(tmp_path / run / "toy.loss.png")) for run in ("whole", "stopped")]
    assert pixels[0].shape == (360, 640, 3) and np.array_equal(*pixels)
    assert (pixels[0] == (30, 90, 200)).all(-1).any(0).sum() > 300  # the curve runs over most of the width
