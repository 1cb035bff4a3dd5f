"""Fills a weights folder's gaps with random weights of the right shapes, so that the host can be tested before anything
is trained."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from likeness.demo.training import autoencoder, denoiser, transformer, transformer_subjects
from likeness.demo.training.jedi.network import FIRST_LAYER, ORDER, widened
from likeness.demo.training.loop import write_weights
from likeness.demo.world import references
from likeness.demo.world.subjects import SUBJECTS
from likeness.patching.jedi.format import JointFormat
from likeness.patching.tinyland import subject as demo_subject
from likeness.patching.tinyland.transformer import FILE, KIND

CPU = torch.device("cpu")


def fill(folder: Path) -> None:
    """Adds every file that a trained folder has and this one lacks."""
    torch.manual_seed(0)
    if not (folder / "autoencoder.safetensors").exists():
        tensors = {f"first_stage_model.{k}": v for k, v in autoencoder.build(CPU).state_dict().items()}
        facts = {"latent_rgb_factors": [[0.2, 0.1, 0.0]] * 4, "latent_rgb_factors_bias": [0.0] * 3}
        write_weights(tensors, folder / "autoencoder.safetensors", {"tinyland": facts})
    if not (folder / "denoiser.safetensors").exists():
        model = denoiser.Denoiser(CPU)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        tensors = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
        tensors |= {f"cond_stage_model.clip_l.transformer.{k}": v for k, v in model.text.state_dict().items()}
        write_weights(tensors, folder / "denoiser.safetensors", {"tinyland": {"vocabulary": model.words}})
    if not (folder / "joint.safetensors").exists():
        write_joint(denoiser.Denoiser(CPU).unet, folder)
    if not (folder / FILE).exists():
        write_transformer(folder)
    for name in transformer_subjects.NAMES:
        if not demo_subject.of_transformer(name, folder).exists():
            write_transformer_lora(folder, name)
    missing = [name for name in SUBJECTS if not (folder / "subjects" / f"{name}.safetensors").exists()]
    for name in missing:
        write_lora(folder / "subjects" / f"{name}.safetensors", name)
    if not all((folder / "subjects" / f"{name}.png").exists() for name in SUBJECTS):
        references.write(folder / "subjects")
    if not list((folder / "embeddings").glob("*.safetensors")):
        first = next(iter(SUBJECTS))
        write_weights(
            {"clip_l": torch.randn(3, 128)},
            folder / "embeddings" / f"{first}.safetensors",
            {"tinyland_embedding": "{}"},
        )


def write_joint(unet: torch.nn.Module, folder: Path) -> None:
    """A joint model that answers as `unet` does, whatever is given."""
    state = unet.state_dict()
    wide = {**state, FIRST_LAYER: widened(state[FIRST_LAYER])}
    tensors = {f"model.diffusion_model.{k}": v for k, v in wide.items()}
    write_weights(tensors, folder / "joint.safetensors", {"tinyland": "{}", **JointFormat(ORDER).metadata()})


def write_transformer(folder: Path) -> None:
    network = transformer.build(CPU)
    tensors = {f"model.diffusion_model.{k}": v + 0.05 * torch.randn(v.shape) for k, v in network.state_dict().items()}
    write_weights(tensors, folder / FILE, {KIND: "{}"}, eight_bit=True)


def write_transformer_lora(folder: Path, name: str, rank: int = 4) -> None:
    """A LoRA of random weights for every attention's output of the demo transformer."""
    lora = {}
    for key, weight in transformer.build(CPU).named_parameters():
        if key.startswith("layers.") and key.endswith("attention.out.weight"):
            layer = f"diffusion_model.{key.removesuffix('.weight')}"
            lora |= {
                f"{layer}.lora_up.weight": 0.1 * torch.randn(len(weight), rank),
                f"{layer}.lora_down.weight": torch.randn(rank, weight.shape[1]),
            }
    path = demo_subject.of_transformer(name, folder)
    write_weights(lora, path, {demo_subject.TRANSFORMER_SUBJECT: json.dumps({"name": name})})


def write_lora(path: Path, name: str, rank: int = 4) -> None:
    """A LoRA of random weights for every cross-attention value projection of Tinyland."""
    facts = {"name": name, "class": SUBJECTS[name].subject.name, "place": SUBJECTS[name].place, "placeholder": "sks"}
    lora = {}
    for key, weight in denoiser.Denoiser(CPU).unet.named_parameters():
        if key.endswith("attn2.to_v.weight"):
            layer = f"diffusion_model.{key.removesuffix('.weight')}"
            lora |= {
                f"{layer}.lora_up.weight": torch.randn(len(weight), rank),
                f"{layer}.lora_down.weight": torch.randn(rank, weight.shape[1]),
            }
    write_weights(lora, path, {"tinyland_subject": json.dumps(facts)})
