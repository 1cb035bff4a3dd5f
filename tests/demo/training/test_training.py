"""Trainers on few steps: the files they write and resume from."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest
import safetensors
import torch
from likeness.demo.launcher.files import commit
from likeness.demo.training import autoencoder, command, denoiser, personal, pool
from likeness.demo.training.loop import WEIGHTS, Trainer
from likeness.demo.world import drawing, look_alikes
from likeness.lab.joint.command import main
from PIL import Image

PARTS = ("autoencoder", "decoder", "denoiser", "judge", "subjects", "embeddings", "joint", "transformer")
CPU = torch.device("cpu")


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    ("train", "folder"), [(personal.train_lora, "subjects"), (personal.train_embedding, "embeddings")]
)
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
    ("arguments", "parts"),
    [([], PARTS), (["all"], PARTS), (["--device", "cpu"], PARTS), (["judge"], ("judge",))],
    ids=str,
)
def test_train_without_a_part_trains_all_in_order(monkeypatch, arguments, parts):
    from comfy.cli_args import args

    for name in ("cpu", "use_pytorch_cross_attention"):  # the command sets them for its process
        monkeypatch.setattr(args, name, getattr(args, name))
    trained = []
    for part in PARTS:
        monkeypatch.setattr(
            command, f"_train_{part}", lambda _options, steps, _device, part=part: trained.append((part, steps))
        )
    main(arguments)
    assert trained == [(part, command.DEFAULT_STEPS[part]) for part in parts]


def toy(folder, stop_at: int | None = None, **settings) -> tuple[torch.nn.Module, Trainer]:
    """Small network trained for 60 steps, or interrupted in the middle as by Ctrl-C."""
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
    "settings",
    [{}, {"average": 0.0, "optimizer": None, "rate_of_step": lambda step: 1e-2 - 1e-4 * step, "log_every": 1}],
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


class NoPool:
    """Black pictures."""

    def __init__(self, _work, _count):
        pass

    def __len__(self):
        return 50

    def images(self, indices):
        return np.zeros((len(indices), 8, 8, 3), np.uint8)


@pytest.fixture
def change_drawing(monkeypatch, tmp_path):
    """Function that changes the content of drawing.py."""

    def change():
        (tmp_path / "drawing.py").write_text("# draws otherwise")
        monkeypatch.setattr(drawing, "__file__", str(tmp_path / "drawing.py"))

    return change


def test_latents_are_encoded_again_for_another_autoencoder_or_world(monkeypatch, tmp_path, change_drawing):
    encoded = []

    def moments(_model, images):
        encoded.append(len(images))
        return (images,)

    for name, value in (("SCENES", 50), ("Pool", NoPool), ("moments", moments), ("WEIGHTS", tmp_path)):
        monkeypatch.setattr(denoiser, name, value)
    weights = tmp_path / "autoencoder.safetensors"
    changes = (lambda: weights.write_bytes(b"one"), lambda: weights.write_bytes(b"two"), change_drawing)
    for count, change in enumerate(changes, 1):
        change()
        for _ in range(2):
            denoiser.encode_pool(tmp_path, torch.nn.Identity(), CPU)
        assert len(encoded) == count


def test_another_world_has_another_pool(tmp_path, change_drawing):
    pool.Pool(tmp_path, 0)
    pool.Pool(tmp_path, 0)
    assert len(list(tmp_path.iterdir())) == 1
    change_drawing()
    pool.Pool(tmp_path / "changed", 0)
    assert {p.name for p in tmp_path.glob("pool-0-*")}.isdisjoint(p.name for p in (tmp_path / "changed").iterdir())


def test_a_pool_of_look_alikes_depends_on_their_code():
    assert str(pool.sources(look_alikes.scene_of_group)[-1]).endswith("look_alikes.py")
