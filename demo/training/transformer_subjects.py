"""Personalizes the demo transformer to two of the demo's subjects, by LoRAs that ComfyUI's own loaders read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.utils import parametrize

from ...patching.host.dit_grad import training
from ...patching.tinyland.subject import TRANSFORMER_SUBJECT, of_transformer
from ...patching.tinyland.transformer import FILE
from ..launcher.files import commit, digest
from ..world.captions import PLACEHOLDER, caption
from ..world.subjects import SUBJECTS, PersonalSubject
from . import denoiser, transformer
from .loop import WEIGHTS, Trainer, write_weights
from .personal import LowRank, reference_latents
from .pool import Pool

if TYPE_CHECKING:
    from comfy.ldm.models.autoencoder import AutoencoderKL

NAMES = ("nemo", "taxi")
"""Subjects with a LoRA for the transformer."""
BATCH = 6
"""Pictures of the subject in a step, and as many of its class beside them (prior preservation, arXiv 2208.12242)."""
LEARNING_RATE = 2e-3
_ADAPTED = re.compile(r"layers\.\d+\.(attention\.(qkv|out)|feed_forward\.w[123])")


def train(work: Path, name: str, steps: int, autoencoder: AutoencoderKL, device: torch.device) -> Path:
    """Writes the LoRA of a subject, or resumes its training. Its captions never name the place."""
    subject = SUBJECTS[name]
    network = transformer.load_weights(transformer.build(device), device).requires_grad_(False)
    torch.manual_seed(0)
    adapters: dict[str, LowRank] = {}
    for path, layer in list(network.named_modules()):
        if _ADAPTED.fullmatch(path):
            adapters[path] = LowRank(layer.weight)  # pyright: ignore[reportArgumentType]
            parametrize.register_parametrization(layer, "weight", adapters[path], unsafe=True)
    modules = torch.nn.ModuleList(adapters.values())
    parameters = list(modules.parameters())
    trainer = Trainer(
        f"transformer-{name}-{digest(WEIGHTS / FILE, Path(__file__))}",
        work,
        modules,
        steps,
        LEARNING_RATE,
        device,
        average=0.0,
        optimizer=torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=0.0),
        rate_of_step=lambda step: LEARNING_RATE * min(1.0, (step + 1) / 20, 4 * (steps - step) / steps),
        longest_gradient=float("inf"),
        log_every=1,
    )
    batch_of = _batches(subject, work, autoencoder, device)
    with training():
        trainer.run(lambda step: transformer.flow_loss(transformer.predictor(network), *batch_of(Random(step))))
    tensors = {}
    for path, adapter in adapters.items():
        tensors[f"diffusion_model.{path}.lora_up.weight"] = adapter.up
        tensors[f"diffusion_model.{path}.lora_down.weight"] = adapter.down
    facts = {"name": name, "class": subject.subject.name, "place": subject.place, "placeholder": PLACEHOLDER}
    loss = float(np.mean([value for _, value in trainer.losses[-50:]]))
    origin = {"commit": commit(), "seed": "0", "steps": str(steps), "loss": f"{loss:.4f}"}
    path = of_transformer(name, WEIGHTS)
    write_weights(tensors, path, {TRANSFORMER_SUBJECT: json.dumps(facts), **origin, "network": digest(WEIGHTS / FILE)})
    return path


def _batches(subject: PersonalSubject, work: Path, autoencoder: AutoencoderKL, device: torch.device):
    """batch(rng): latents, contexts and loss weights of pictures of the subject, and of its class in other scenes."""
    own, own_weight = reference_latents(subject, autoencoder, device)
    everything, pool = denoiser.encode_pool(work, autoencoder, device), Pool(work, denoiser.SCENES)
    scenes = {i: Pool.scene_of(i) for i in range(denoiser.SCENES)}
    alike = [i for i, scene in scenes.items() if scene.subject.name == subject.subject.name]
    encode = transformer.encoder(device)
    personal = encode([subject.neutral]).expand(BATCH, -1, -1)

    def batch(rng: Random) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = [rng.randrange(len(own)) for _ in range(BATCH)]
        chosen = [rng.choice(alike) for _ in range(BATCH)]
        others = encode([caption(scenes[i], rng) for i in chosen])
        prior = denoiser.subject_weight(pool.masks(np.array(chosen)), device)
        return (
            torch.cat([own[rows], everything[chosen]]),
            torch.cat([personal, others]),
            torch.cat([own_weight[rows], prior]),
        )

    return batch
