"""Pictures of a class beside a subject's, smaller LoRAs, and weights that benchmarks alone use."""

import json

import pytest
import safetensors
import torch
from likeness.demo.launcher.files import Problem
from likeness.demo.training import autoencoder, command, denoiser, personal, prior
from likeness.demo.training.loop import WEIGHTS
from likeness.kernels.diffusion import ddim_step
from likeness.lab.joint.arguments import parse
from likeness.lab.joint.command import main

CPU = torch.device("cpu")


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(prior, "STEPS", 2)


def test_captions_name_the_class_in_many_places():
    captions = prior.captions_of("fish", 60)
    assert all("fish" in text.split() for text in captions) and captions == prior.captions_of("fish", 60)
    assert len(set(captions)) > 50


def test_a_model_that_knows_the_picture_is_followed_to_it():
    """v of a known clean latent, as the model would predict it: DDIM ends at that latent from any noise."""
    wanted = torch.randn(1, *prior._SHAPE)
    sigmas = denoiser.schedule(CPU)

    class Knowing(torch.nn.Module):
        def encode(self, captions, _device):
            return torch.zeros(len(captions), 1, 1)

        def forward(self, noisy, times, _context):
            sigma = sigmas[times.long()].view(-1, 1, 1, 1)
            alpha = (sigma**2 + 1).rsqrt()
            noise = (noisy / alpha - wanted) / sigma
            return alpha * (noise - sigma * wanted)

    made = prior.drawn(Knowing(), ["one", "two"], CPU)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(made, wanted.expand(2, -1, -1, -1), rtol=1e-3, atol=1e-3)
    assert torch.equal(ddim_step(made, made, 1.0, 0.0), made)


@pytest.mark.usefixtures("few_steps")
def test_a_smaller_lora_is_learned_beside_its_class(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(personal, "WEIGHTS", tmp_path)
    losses, rows = personal.velocity_loss, []

    def counted(model, latents, context, sigmas, weight):
        rows.append((len(latents), len(context), len(weight)))
        return losses(model, latents, context, sigmas, weight)

    monkeypatch.setattr(personal, "velocity_loss", counted)
    for _ in range(2):
        personal.train_lora(tmp_path, "nemo", 1, autoencoder.build(CPU), CPU, 3, personal.ENCODER)
    path = tmp_path / "subjects" / "nemo.safetensors"
    assert path.stat().st_size <= 200_000 and rows == [3 * (2 * personal.BATCH,)]
    assert capsys.readouterr().out.count("drawing 3 pictures of a fish") == 1
    with safetensors.safe_open(path, framework="pt") as file:
        assert (file.metadata()["prior"], file.metadata()["convolutions"]) == ("3", "encoder")
        layers = {key.split(".lora_")[0].removeprefix("diffusion_model.") for key in file.keys()}  # noqa: SIM118
    convolutions = {layer for layer in layers if layer.endswith(("in_layers.2", "out_layers.3"))}
    assert convolutions and all(layer.startswith("input_blocks.") for layer in convolutions)
    assert all(".attn" in layer for layer in layers - convolutions)


def test_only_keys_and_values_of_the_text_are_tuned(tmp_path):
    path = personal.train_cross_attention(tmp_path, "nemo", 2, autoencoder.build(CPU), CPU)
    assert path == tmp_path / "cross-attention" / "nemo.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    assert len(tensors) == 20 and all(key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for key in tensors)
    with safetensors.safe_open(WEIGHTS / "denoiser.safetensors", framework="pt") as base:
        assert all(not torch.equal(value, base.get_tensor(key)) for key, value in tensors.items())
    assert metadata["denoiser"] == denoiser.weights_digest()
    assert json.loads(metadata["tinyland_subject"])["name"] == "nemo"


def test_benchmarks_parts_are_trained_by_name_alone(monkeypatch, tmp_path):
    from comfy.cli_args import args

    for name in ("cpu", "use_pytorch_cross_attention"):  # the command sets them for its process
        monkeypatch.setattr(args, name, getattr(args, name))
    trained = []
    for part in command.EXTRAS:
        monkeypatch.setattr(
            command,
            f"_train_{part.replace('-', '_')}",
            lambda options, steps, _device, part=part: trained.append((part, steps, options.prior)),
        )
    main(["cross-attention", "--work", str(tmp_path)])
    main(["copies", "--steps", "3", "--work", str(tmp_path)])
    assert trained == [("cross-attention", 300, 200), ("copies", 3, None)]


def test_options_of_the_subjects_are_theirs_alone():
    parts = (*command.PARTS, *command.EXTRAS)
    chosen = parse(["subjects"], parts, None)
    assert (chosen.prior, chosen.convolutions) == (200, "encoder")
    chosen = parse(["subjects", "--prior", "0", "--convolutions", "all"], parts, None)
    assert (chosen.prior, chosen.convolutions) == (0, "all")
    assert parse([], parts, None).prior == 200
    with pytest.raises(Problem, match="expected --prior with the part subjects and cross-attention alone, got the par"):
        parse(["judge", "--prior", "5"], parts, None)
    with pytest.raises(Problem, match="at least 0, got -1"):
        parse(["subjects", "--prior", "-1"], parts, None)
