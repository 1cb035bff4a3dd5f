"""Training of Tinyland: one part of it, or all of them in order; every part resumes where it stopped.

Checkpoints and loss curves are in the work folder. A finished part is written again without training. A subject is
trained again if its base weights, its pictures or the trainer have changed.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL

COPIES = "copies"
EXTRAS = ("cross-attention", COPIES)
"""Parts that only benchmarks use: they are written into the work folder, and `all` leaves them out."""
PARTS = ("autoencoder", "decoder", "denoiser", "judge", "subjects", "embeddings", "joint", "transformer")
DEFAULT_STEPS = {
    "autoencoder": 5400,
    "decoder": 3000,
    "denoiser": 37_000,
    "judge": 6200,
    "subjects": 600,
    "embeddings": 400,
    "joint": 2600,
    "transformer": 20_000,
    "cross-attention": 300,
    "copies": 2600,
}


def train(options: argparse.Namespace) -> None:
    """Trains the part that the options name, or all parts.

    options: part, steps (None for the default), device (None for the best), work, only, from_weights, loss_on, prior,
    convolutions.
    """
    device = device_of(options)
    for part in PARTS if options.part == "all" else (options.part,):
        steps = options.steps or DEFAULT_STEPS[part]
        globals()[f"_train_{part.replace('-', '_')}"](options, steps, device)


def device_of(options: argparse.Namespace) -> torch.device:
    """Device to train on; the host is told of it."""
    from comfy.cli_args import args as host_arguments

    host_arguments.use_pytorch_cross_attention = True
    import torch

    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    host_arguments.cpu = device.type == "cpu"
    return device


def _train_autoencoder(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from . import autoencoder

    start = load_autoencoder(device) if options.from_weights else None
    _write_autoencoder(options, autoencoder.train(options.work, steps, device, start), steps, device)


def _train_decoder(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from . import autoencoder

    _write_autoencoder(
        options, autoencoder.refine_decoder(options.work, load_autoencoder(device), steps, device), steps, device
    )


def _write_autoencoder(options: argparse.Namespace, model: AutoencoderKL, steps: int, device: torch.device) -> None:
    from . import autoencoder
    from .loop import WEIGHTS, write_weights

    held_out = autoencoder.Pool(options.work, 500, seed=1)
    factors, bias = autoencoder.rgb_factors(model, held_out, device)
    print(f"autoencoder: {autoencoder.psnr(model, held_out, device):.2f} dB on held-out renders", flush=True)
    facts = {"latent_rgb_factors": factors, "latent_rgb_factors_bias": bias}
    tensors = {f"first_stage_model.{k}": v for k, v in model.state_dict().items()}
    write_weights(tensors, WEIGHTS / "autoencoder.safetensors", _metadata(steps, facts))


def _train_denoiser(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from . import denoiser
    from .loop import WEIGHTS, write_weights

    model = denoiser.train(options.work, steps, load_autoencoder(device), device, options.from_weights)
    tensors = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
    tensors |= {f"cond_stage_model.clip_l.transformer.{k}": v for k, v in model.text.state_dict().items()}
    write_weights(tensors, WEIGHTS / "denoiser.safetensors", _metadata(steps, {"vocabulary": model.words}))


def _train_judge(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from . import judge

    judge.train(options.work, steps, device)


def _train_subjects(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from ..world import references
    from . import personal

    references.write()
    for name in [options.only] if options.only else personal.SUBJECTS:
        autoencoder = load_autoencoder(device)
        personal.train_lora(options.work, name, steps, autoencoder, device, options.prior, options.convolutions)


def _train_cross_attention(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from . import personal

    for name in [options.only] if options.only else personal.SUBJECTS:
        path = personal.train_cross_attention(
            options.work, name, steps, load_autoencoder(device), device, options.prior
        )
        print(f"written: {path}", flush=True)


def _train_embeddings(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from . import personal

    for name in [options.only] if options.only else personal.SUBJECTS:
        personal.train_embedding(options.work, name, steps, load_autoencoder(device), device)


def _train_joint(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from . import denoiser
    from .jedi import tinyland
    from .loop import WEIGHTS, write_weights

    unet = tinyland.train(options.work, steps, load_autoencoder(device), device, options.loss_on or "all")
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet.state_dict().items()}
    facts, path = _metadata(steps, {}) | tinyland.metadata(), WEIGHTS / "joint.safetensors"
    write_weights(tensors, path, facts, eight_bit=True, base=denoiser.stored_weights())


def _train_copies(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from .jedi import tinyland
    from .jedi.copies import copy_of_set
    from .loop import write_weights

    unet = tinyland.train(options.work, steps, load_autoencoder(device), device, scene_of=copy_of_set, kind=COPIES)
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet.state_dict().items()}
    path = options.work / COPIES / "joint.safetensors"
    write_weights(tensors, path, _metadata(steps, {}) | tinyland.metadata())
    print(f"written: {path}", flush=True)


def _train_transformer(options: argparse.Namespace, steps: int, device: torch.device) -> None:
    from ...patching.tinyland.transformer import FILE, KIND
    from . import transformer, transformer_subjects
    from .loop import WEIGHTS, write_weights

    autoencoder = load_autoencoder(device)
    if not options.only:
        network = transformer.train(options.work, steps, autoencoder, device)
        tensors = {f"model.diffusion_model.{k}": v for k, v in network.state_dict().items()}
        facts = _metadata(steps, {}) | {KIND: json.dumps({"base": transformer.origin()})}
        write_weights(tensors, WEIGHTS / FILE, facts, eight_bit=True)
    # Without --only, --steps is the network's, and would be far too many for a LoRA.
    own = options.steps if options.only and options.steps else DEFAULT_STEPS["subjects"]
    for name in [options.only] if options.only else transformer_subjects.NAMES:
        transformer_subjects.train(options.work, name, own, autoencoder, device)


def load_autoencoder(device: torch.device) -> AutoencoderKL:
    """Loads the trained autoencoder from the pack's own weights."""
    from safetensors.torch import load_file

    from . import autoencoder
    from .loop import WEIGHTS

    model = autoencoder.build(device)
    state = load_file(WEIGHTS / "autoencoder.safetensors", device=str(device))
    model.load_state_dict({k.removeprefix("first_stage_model."): v.float() for k, v in state.items()})
    return model


def _metadata(steps: int, facts: dict) -> dict[str, str]:
    from ..launcher.files import commit

    return {"tinyland": json.dumps(facts), "commit": commit(), "seed": "0", "steps": str(steps)}
