"""`run.py train`: trains one part of Tinyland, or all of them in order; every part resumes where it was stopped.

Checkpoints and loss curves are in the work folder. What is finished there is written again and not trained again; of one subject,
only as long as the weights that it is tuned on, its pictures and the trainer are the same.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

PARTS = ("autoencoder", "decoder", "denoiser", "judge", "subjects", "embeddings")
DEFAULT_STEPS = {"autoencoder": 5400, "decoder": 3000, "denoiser": 37_000, "judge": 6200, "subjects": 600, "embeddings": 400}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="run.py train", description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"], nargs="?", default="all")
    parser.add_argument("--steps", type=int, help="training steps; a resumed run may be given another number")
    parser.add_argument("--work", type=Path, default=Path(os.environ.get("LIKENESS_CACHE", ".")) / "training")
    parser.add_argument("--device", help="cpu or cuda; the default is cuda where there is one")
    parser.add_argument("--only", help="one subject's name, for the parts subjects and embeddings")
    parser.add_argument("--from-weights", action="store_true", help="the denoiser starts from the pack's own weights, not from nothing")
    options = parser.parse_args(arguments)

    from comfy.cli_args import args as host_arguments

    host_arguments.use_pytorch_cross_attention = True
    import torch

    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    host_arguments.cpu = device.type == "cpu"
    for part in PARTS if options.part == "all" else (options.part,):
        steps = options.steps or DEFAULT_STEPS[part]
        globals()[f"_train_{part}"](options, steps, device)


def _train_autoencoder(options: argparse.Namespace, steps: int, device) -> None:
    from . import autoencoder

    _write_autoencoder(options, autoencoder.train(options.work, steps, device), steps, device)


def _train_decoder(options: argparse.Namespace, steps: int, device) -> None:
    from . import autoencoder

    _write_autoencoder(options, autoencoder.refine_decoder(options.work, load_autoencoder(device), steps, device), steps, device)


def _write_autoencoder(options: argparse.Namespace, model, steps: int, device) -> None:
    from . import autoencoder
    from .loop import WEIGHTS, write_weights

    held_out = autoencoder.Pool(options.work, 500, seed=1)
    factors, bias = autoencoder.rgb_factors(model, held_out, device)
    print(f"autoencoder: {autoencoder.psnr(model, held_out, device):.2f} dB on held-out renders", flush=True)
    facts = {"latent_rgb_factors": factors, "latent_rgb_factors_bias": bias}
    tensors = {f"first_stage_model.{k}": v for k, v in model.state_dict().items()}
    write_weights(tensors, WEIGHTS / "autoencoder.safetensors", _metadata(steps, facts))


def _train_denoiser(options: argparse.Namespace, steps: int, device) -> None:
    from . import denoiser
    from .loop import WEIGHTS, write_weights

    model = denoiser.train(options.work, steps, load_autoencoder(device), device, options.from_weights)
    tensors = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
    tensors |= {f"cond_stage_model.clip_l.transformer.{k}": v for k, v in model.text.state_dict().items()}
    write_weights(tensors, WEIGHTS / "denoiser.safetensors", _metadata(steps, {"vocabulary": model.words}))


def _train_judge(options: argparse.Namespace, steps: int, device) -> None:
    from . import judge

    judge.train(options.work, steps, device)


def _train_subjects(options: argparse.Namespace, steps: int, device) -> None:
    from .. import references
    from . import personal

    references.write()
    for name in [options.only] if options.only else personal.SUBJECTS:
        personal.train_lora(options.work, name, steps, load_autoencoder(device), device)


def _train_embeddings(options: argparse.Namespace, steps: int, device) -> None:
    from . import personal

    for name in [options.only] if options.only else personal.SUBJECTS:
        personal.train_embedding(options.work, name, steps, load_autoencoder(device), device)


def load_autoencoder(device):
    """The trained autoencoder, from the pack's own weights."""
    from safetensors.torch import load_file

    from . import autoencoder
    from .loop import WEIGHTS

    model = autoencoder.build(device)
    state = load_file(WEIGHTS / "autoencoder.safetensors", device=str(device))
    model.load_state_dict({k.removeprefix("first_stage_model."): v.float() for k, v in state.items()})
    return model


def _metadata(steps: int, facts: dict) -> dict[str, str]:
    from .loop import commit

    return {"tinyland": json.dumps(facts), "commit": commit(), "seed": "0", "steps": str(steps)}
