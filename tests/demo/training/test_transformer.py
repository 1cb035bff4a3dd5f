"""The demo transformer on two steps: what its trainer writes, and that the host predicts as the trainer does."""

from __future__ import annotations

import argparse
import json

import comfy.model_management
import comfy.sd
import pytest
import torch
from likeness.benchmarks import generate
from likeness.demo.training import (
    autoencoder,
    command,
    denoiser,
    loop,
    pool,
    transformer,
    transformer_subjects,
)
from likeness.demo.training.loop import write_weights
from likeness.patching.host.dit_grad import training
from likeness.patching.host.families import discover, training_resolution
from likeness.patching.tinyland import subject as demo_subject
from likeness.patching.tinyland import transformer as host_side
from likeness.patching.tinyland.model import read_weights
from likeness.tests.demo.training.black_pool import BlackPool

CPU = torch.device("cpu")


class FewScenes(BlackPool):
    scene_of = staticmethod(pool.scene_of)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weights of text encoder and autoencoder, and a transformer of two blocks, whose trainer takes tiny batches."""
    folder = tmp_path / "weights"
    model = denoiser.Denoiser(CPU)
    tensors = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
    tensors |= {f"cond_stage_model.clip_l.transformer.{k}": v for k, v in model.text.state_dict().items()}
    write_weights(tensors, folder / "denoiser.safetensors", {"tinyland": {"vocabulary": model.words}})
    tensors = {f"first_stage_model.{k}": v for k, v in autoencoder.build(CPU).state_dict().items()}
    colors = {"latent_rgb_factors": [[0.1] * 3] * 4, "latent_rgb_factors_bias": [0.0] * 3}
    write_weights(tensors, folder / "autoencoder.safetensors", {"tinyland": colors})
    for module in (loop, denoiser, transformer, transformer_subjects):
        monkeypatch.setattr(module, "WEIGHTS", folder)
    for module in (transformer, transformer_subjects):
        monkeypatch.setattr(module, "Pool", FewScenes)
    monkeypatch.setitem(host_side.TRANSFORMER_CONFIG, "n_layers", 2)
    monkeypatch.setattr(transformer, "BATCHES", {"cpu": 2, "cuda": 2})
    monkeypatch.setattr(transformer_subjects, "BATCH", 1)
    monkeypatch.setattr(transformer.shutil, "which", lambda _name: None)  # nothing is compiled
    monkeypatch.setattr(denoiser, "SCENES", 60)
    latents = torch.randn(60, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(denoiser, "encode_pool", lambda *_arguments: latents)
    return folder


def test_the_trainer_writes_what_the_host_loads(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(command.DEFAULT_STEPS, "subjects", 1)
    options = argparse.Namespace(work=tmp_path / "work", steps=2, only=None)
    command._train_transformer(options, 2, CPU)
    assert not comfy.model_management.in_training
    (checkpoint,) = (tmp_path / "work").glob("transformer-????????.checkpoint.pt")
    assert checkpoint.name == f"transformer-{transformer.origin()}.checkpoint.pt"
    model, clip, vae = host_side.load(weights, dtype=torch.float32)
    assert [block.name for block in discover(model, "test")] == ["double0", "double1"]
    assert training_resolution(model, "test").side == 16
    settings = generate.Settings(steps=2, scheduler="simple")
    encode = generate.TextEncoder(clip)
    for name in transformer_subjects.NAMES:
        path = demo_subject.of_transformer(name, weights)
        tensors, metadata = read_weights(path, demo_subject.TRANSFORMER_SUBJECT)
        assert json.loads(metadata[demo_subject.TRANSFORMER_SUBJECT])["name"] == name
        assert metadata["steps"] == "1"  # of the LoRA, not of the network
        assert len(tensors) == 2 * 2 * 5
        personal = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)[0]
        assert personal is not None and len(personal.patches) == 10
        with torch.inference_mode():
            pictures = generate.pictures(generate.plain(personal, encode, settings), vae, ["a red car"], [1], settings)
        assert pictures.shape == (1, 128, 128, 3)


def test_the_host_predicts_as_the_trainer_does(weights):
    network = transformer.build(CPU)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    tensors = {f"model.diffusion_model.{k}": v for k, v in network.state_dict().items()}
    write_weights(tensors, weights / host_side.FILE, {host_side.KIND: "{}"})
    transformer.load_weights(network, CPU)  # rounded to half precision
    model, clip, _ = host_side.load(weights, dtype=torch.float32)
    context = transformer.encoder(CPU)(["a red car at night"])
    encoded = generate.TextEncoder(clip)(["a red car at night"])[0][0]
    torch.testing.assert_close(context, encoded, rtol=0.05, atol=0.05)  # of the trainer's bfloat16
    noisy, time = torch.randn(2, 4, 16, 16), torch.tensor([0.3, 0.8])
    text = encoded.expand(2, -1, -1)
    with torch.no_grad(), training():
        velocity = transformer.predictor(network)(noisy, time, text)
    with torch.inference_mode():
        clean = model.model.apply_model(noisy, time, c_crossattn=text, num_tokens=text.shape[1])
    assert velocity.std() > 0.05
    torch.testing.assert_close(clean, noisy - time.view(-1, 1, 1, 1) * velocity, rtol=1e-3, atol=1e-3)


def test_the_loss_is_that_of_the_straight_path_to_noise():
    latents, context = torch.randn(64, 4, 16, 16), torch.zeros(64, 24, 128)

    def told(noisy, times, _context):
        """The velocity that the noise in `noisy` tells."""
        t = times.view(-1, 1, 1, 1)
        return (noisy - latents) / t

    loss = transformer.flow_loss(told, latents, context, torch.ones(64, 1, 16, 16))
    assert float(loss) < 1e-6
    times = transformer.drawn_times(4000, CPU)
    assert 0 < times.min() < 0.1 and 0.95 < times.max() < 1 and 0.64 < times.median() < 0.82


def test_other_weights_start_another_training(weights):
    before = transformer.origin()
    (weights / "autoencoder.safetensors").write_bytes(b"others")
    assert transformer.origin() != before


def test_missing_weights_are_one_sentence(weights):
    with pytest.raises(FileNotFoundError, match=r"^Demo Transformer: expected the weights transformer\.saf"):
        host_side.load(weights)
