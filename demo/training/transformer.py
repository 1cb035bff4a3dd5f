"""Trains the demo transformer by flow matching on cached latents; text encoder and autoencoder stay as they are."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import comfy.ops
import numpy as np
import torch
import torch.nn.functional as F
from comfy.ldm.lumina.model import NextDiT

from ...patching.host.dit_grad import training
from ...patching.tinyland.transformer import FILE, KIND, SHIFT, TITLE, TRANSFORMER_CONFIG
from ...patching.tinyland.weights import read_weights
from ..launcher.files import digest
from ..precision import autocast
from ..world.captions import caption
from . import denoiser
from .loop import WEIGHTS, Trainer, initialize
from .muon import Muon
from .pool import Pool

if TYPE_CHECKING:
    from comfy.ldm.models.autoencoder import AutoencoderKL

BATCHES = {"cpu": 48, "cuda": 256}
LEARNING_RATE = 1.2e-3
DECAY = 0.4
AVERAGE = 0.9985
UNIFORM = 0.2
"""Part of the steps' times drawn uniformly, so that both ends of the path are learned too."""
_NO_HIDDEN_LAYERS = re.compile(r"(x_embedder|cap_embedder|t_embedder|final_layer)\.|.*adaLN_modulation\.")
"""First and last layers and modulation, which Muon leaves to AdamW."""


def build(device: torch.device, seed: int = 0) -> NextDiT:
    """The untrained network: residual branches and output start at zero (DiT, arXiv 2212.09748, section 3.2)."""
    network = NextDiT(
        **{name: value for name, value in TRANSFORMER_CONFIG.items() if name != "image_model"},
        dtype=torch.float32,
        device=device,
        operations=comfy.ops.disable_weight_init,
    )
    initialize(network, seed)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.RMSNorm):
            torch.nn.init.ones_(module.weight)
        if isinstance(module, torch.nn.Linear) and ("adaLN_modulation" in name or name == "final_layer.linear"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    return network


def load_weights(network: NextDiT, device: torch.device) -> NextDiT:
    """Puts the pack's own weights into the network."""
    state = read_weights(WEIGHTS / FILE, KIND, TITLE)[0]
    network.load_state_dict({k.removeprefix("model.diffusion_model."): v.to(device).float() for k, v in state.items()})
    return network


def _split_attention(_function, q, k, v, _heads, *_arguments, **_options) -> torch.Tensor:
    return denoiser.split_attention(q, k, v)


def predictor(network: torch.nn.Module) -> denoiser.Predictor:
    """Function of noisy latents, times [n] and contexts that predicts the velocity."""

    def predict(noisy: torch.Tensor, times: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        options = {"optimized_attention_override": _split_attention} if noisy.device.type == "cpu" else {}
        return network(noisy, times, context, context.shape[1], transformer_options=options)

    return predict


def drawn_times(n: int, device: torch.device) -> torch.Tensor:
    """[n] times in 0..1, logit-normal (arXiv 2403.03206, section 3.1) or uniform, shifted as in sampling."""
    times = torch.sigmoid(torch.randn(n, device=device))
    uniform = torch.rand(n, device=device)
    times = torch.where(torch.rand(n, device=device) < UNIFORM, uniform, times)
    return SHIFT * times / (1 + (SHIFT - 1) * times)


def flow_loss(
    predict: denoiser.Predictor, latents: torch.Tensor, context: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of v = noise - x0 at x_t = (1 - t) x0 + t noise (flow matching, arXiv 2210.02747, eq. 23).

    weight: of the latent pixels, [n, 1, h, w].
    """
    times, noise = drawn_times(len(latents), latents.device), torch.randn_like(latents)
    noisy = torch.lerp(latents, noise, times.view(-1, 1, 1, 1))
    with autocast(latents.device):
        predicted = predict(noisy, times, context)
    return (F.mse_loss(predicted.float(), noise - latents, reduction="none") * weight).mean()


def encoder(device: torch.device) -> Callable[[list[str]], torch.Tensor]:
    """Function of captions that gives their features by the pack's own text encoder, frozen."""
    model = denoiser.load_weights(denoiser.Denoiser(device), device).requires_grad_(False)

    @torch.no_grad()
    def encode(captions: list[str]) -> torch.Tensor:
        with autocast(device):
            return model.encode(captions, device).float()

    return encode


def origin() -> str:
    """Digest of the files that a training builds on: a checkpoint fits no others."""
    seen = digest(*(WEIGHTS / f"{name}.safetensors" for name in ("autoencoder", "denoiser")))
    return hashlib.sha256(f"{seen} {sorted(TRANSFORMER_CONFIG.items())}".encode()).hexdigest()[:8]


def compile_blocks(network: NextDiT) -> None:
    """Compiles the blocks, which share their code; the whole network takes many times as long to compile."""
    for block in (*network.context_refiner, *network.noise_refiner, *network.layers):
        block.compile(dynamic=False)


def optimizer_of(network: NextDiT) -> Muon:
    others = [p for name, p in network.named_parameters() if _NO_HIDDEN_LAYERS.match(name)]
    hidden = [p for name, p in network.named_parameters() if not _NO_HIDDEN_LAYERS.match(name)]
    return Muon([{"params": hidden}, {"params": others, "orthogonal": False}], LEARNING_RATE)


def train(work: Path, steps: int, autoencoder: AutoencoderKL, device: torch.device) -> NextDiT:
    """Trains the transformer, or resumes its training."""
    latents, pool = denoiser.encode_pool(work, autoencoder, device), Pool(work, denoiser.SCENES)
    scenes = [Pool.scene_of(i) for i in range(denoiser.SCENES)]
    shares = [3 if scene.subject.pattern in denoiser.HARD_PATTERNS else 1 for scene in scenes]
    encode, network, batch = encoder(device), build(device), BATCHES[device.type]
    if device.type == "cuda" or shutil.which("g++"):
        compile_blocks(network)
    trainer = Trainer(
        f"transformer-{origin()}",
        work,
        network,
        steps,
        LEARNING_RATE,
        device,
        decay=DECAY,
        average=AVERAGE,
        optimizer=optimizer_of(network),
    )
    predict = predictor(network)

    def loss_of_step(step: int) -> torch.Tensor:
        rng = Random(step)
        indices = rng.choices(range(len(latents)), shares, k=batch)
        context = encode(["" if rng.random() < denoiser.CAPTION_DROPOUT else caption(scenes[i], rng) for i in indices])
        weight = denoiser.subject_weight(pool.masks(np.array(indices)), device)
        return flow_loss(predict, latents[indices], context, weight)

    with training():
        trainer.run(loss_of_step)
    return network
